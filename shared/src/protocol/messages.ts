import { z } from 'zod';
import { credentialAcceptedSchema, credentialConfirmSchema, credentialProposeSchema } from './credential.ts';
import { commandAckSchema, commandProgressSchema, commandResultSchema, commandSchema } from './command.ts';
import { heartbeatAckSchema, heartbeatSchema, sampleSchema } from './heartbeat.ts';
import { assignSchema, helloSchema, refusedSchema, welcomeSchema } from './hello.ts';
import { noticeSchema } from './notice.ts';
import { snapshotCommitSchema, snapshotVerdictSchema } from './snapshot.ts';

/** Agent → control plane. */
export const upstreamSchema = z.discriminatedUnion('kind', [
  helloSchema,
  heartbeatSchema,
  sampleSchema,
  commandAckSchema,
  commandProgressSchema,
  commandResultSchema,
  snapshotCommitSchema,
  credentialProposeSchema,
  credentialConfirmSchema,
  noticeSchema,
]);
export type Upstream = z.infer<typeof upstreamSchema>;

/** Control plane → agent. */
export const downstreamSchema = z.discriminatedUnion('kind', [
  welcomeSchema,
  assignSchema,
  refusedSchema,
  heartbeatAckSchema,
  commandSchema,
  snapshotVerdictSchema,
  credentialAcceptedSchema,
]);
export type Downstream = z.infer<typeof downstreamSchema>;
