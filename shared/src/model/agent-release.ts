import { z } from 'zod';

/** Machines that a release of the agent is built for. */
export const AGENT_ARCHITECTURES = ['x64', 'arm64'] as const;
export type AgentArchitecture = (typeof AGENT_ARCHITECTURES)[number];

const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 lower-case hex digits');

/** A version as it stands in names of files and folders: digits and dots, and a suffix for builds between releases. */
export const agentVersionSchema = z
  .string()
  .max(64)
  .regex(/^\d+\.\d+\.\d+(?:[-+][A-Za-z0-9.-]+)?$/, 'must be a version such as 1.2.3 or 1.2.3-rc.1');

/** One build of the agent: `release.json` beside its files, and what an agent is offered for an upgrade. */
export const agentReleaseSchema = z.object({
  version: agentVersionSchema,
  builds: z
    .array(
      z.object({
        arch: z.enum(AGENT_ARCHITECTURES),
        /** The gzip-compressed executable, relative to the release's own address. */
        file: z.string().regex(/^dumont-agent-[A-Za-z0-9.+-]+\.gz$/),
        compressedBytes: z.int().min(1),
        compressedSha256: sha256Schema,
        /** Of the executable itself. */
        bytes: z.int().min(1),
        sha256: sha256Schema,
      }),
    )
    .min(1)
    .max(8),
});
export type AgentRelease = z.infer<typeof agentReleaseSchema>;
export type AgentBuild = AgentRelease['builds'][number];
