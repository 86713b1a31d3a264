import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { envFlag, envMs, envPort, readEnvironment } from '@dumont/shared/node/config.ts';
import { LOG_LEVELS } from '@dumont/shared/node/logger.ts';
import type { BucketGrant, DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import { MAX_CREDENTIAL_ROTATE_MS } from '@dumont/shared/protocol/hello.ts';
import { readBucketGrant, storageVariables, type Environment } from '@dumont/shared/storage/storage-environment.ts';
import {
  STORAGE_PROVIDERS,
  type BucketProviderName,
  type StorageProviderName,
} from '@dumont/shared/storage/storage-profile.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { cloudVariables, readCloudSettings, type CloudSettings } from './providers/cloud-settings.ts';
import { GRANT_MODES, planGrants, type GrantPlan } from './storage/choose-issuer.ts';

const optional = z.string().min(1).optional();

/** Where `npm run build:agent` writes. */
const BUILT_RELEASES = fileURLToPath(new URL('../../dist/agent', import.meta.url));

/** Every environment variable of the control plane; `--help` and install/env.example are made from it. */
export const controlEnvironmentSchema = z.object({
  DUMONT_HOST: z.string().min(1).default('127.0.0.1').describe('Address to listen on.'),
  DUMONT_PORT: envPort(8766).describe('Port of the API and the agent socket; 0 lets the system choose.'),
  DUMONT_PUBLIC_URL: z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe('URL under which machines reach this control plane; default: http://DUMONT_HOST:DUMONT_PORT.'),
  DUMONT_DATA_DIR: z
    .string()
    .min(1)
    .default(join(homedir(), '.dumont'))
    .describe('Folder for the embedded database, the API token and local machines.'),
  DATABASE_URL: z
    .url({ protocol: /^postgres(ql)?$/ })
    .optional()
    .describe('PostgreSQL URL; absent: the embedded database in DUMONT_DATA_DIR.'),
  DUMONT_API_TOKEN: z
    .string()
    .min(16)
    .max(256)
    .optional()
    .describe('Bearer token of the API; absent: generated and kept in DUMONT_DATA_DIR/api-token.'),
  STORAGE_PROVIDER: z
    .enum(STORAGE_PROVIDERS)
    .default('file')
    .describe('Where snapshots go: file, b2, r2, s3, wasabi or minio.'),
  STORAGE_GRANTS: z
    .enum(GRANT_MODES)
    .default('auto')
    .describe(
      'How machines get at the bucket: auto, sts, r2, b2, presigned, or account, which hands every machine the keys of the whole bucket.',
    ),
  FILE_STORE_PATH: optional.describe('Folder of the file store; default: DUMONT_DATA_DIR/objects.'),
  SNAPSHOT_PASSWORD: z
    .string()
    .min(1)
    .max(1_024)
    .optional()
    .describe(
      'Password that encrypts snapshots on the machines before they are stored; handed to every rented machine.',
    ),
  ...storageVariables(),
  ...cloudVariables(),
  DUMONT_LOCAL_PROVIDER: envFlag(true).describe('Offer processes on this computer as machines (provider "local").'),
  DUMONT_LOCAL_DIR: optional.describe('Folder of the local machines; default: DUMONT_DATA_DIR/machines.'),
  DUMONT_LOCAL_BOOT_SCALE: z.coerce
    .number()
    .min(0)
    .max(100)
    .default(1)
    .describe('Factor on the boot time of local machines.'),
  DUMONT_VAST_API_KEY: optional.describe('API key of Vast.ai; absent: no machines are rented there.'),
  DUMONT_VAST_URL: z
    .url({ protocol: /^https?$/ })
    .default('https://console.vast.ai')
    .describe('Where the API of Vast.ai is.'),
  DUMONT_VAST_IMAGE: z
    .string()
    .min(1)
    .max(1_024)
    .default('nvidia/cuda:12.4.1-devel-ubuntu22.04')
    .describe('Container image of machines of Vast.ai; it needs glibc, and curl, wget or apt-get.'),
  DUMONT_VAST_DISK_GB: z.coerce
    .number()
    .min(8)
    .max(10_000)
    .default(40)
    .describe('Disk of each machine of Vast.ai, GB; billed as long as the machine exists.'),
  DUMONT_GATEWAY_PORTS: z
    .string()
    .regex(/^\d{1,5}-\d{1,5}$/, 'must be two ports, such as 20000-20999')
    .default('20000-20999')
    .refine((range) => {
      const { first, last } = portRange(range);
      return first >= 1 && first <= last && last <= 65_535;
    }, 'must be two ports in growing order, from 1 to 65535')
    .describe('Ports of the SSH addresses, one per workspace, first-last.'),
  DUMONT_GATEWAY_DOMAIN: z
    .string()
    .regex(/^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/, 'must be a domain name')
    .optional()
    .describe('Serve workspaces as <workspace>.<domain>, besides /w/<workspace>/; *.<domain> must lead here.'),
  DUMONT_HEARTBEAT_MS: envMs(200, 20, 60_000).describe('Time between the heartbeats of an agent, ms.'),
  DUMONT_START_GRACE_MS: envMs(10_000, 500, 600_000).describe(
    'After a start or a promotion nobody is judged before this long without a beat, ms.',
  ),
  DUMONT_BOOT_DEADLINE_MS: envMs(300_000, 1_000, 3_600_000).describe(
    'Longest wait for a rented machine to come up, ms.',
  ),
  DUMONT_DOWNLOADS_DIR: optional.describe(
    'Folder of the releases of the agent, one folder per version; default: dist/agent of this checkout.',
  ),
  DUMONT_AGENT_UPGRADE: z
    .enum(['manual', 'auto'])
    .default('manual')
    .describe('auto: agents older than the newest release are brought to it, a few at a time.'),
  DUMONT_CREDENTIAL_ROTATE_MS: envMs(86_400_000, 1_000, MAX_CREDENTIAL_ROTATE_MS).describe(
    'Age at which an agent replaces its credential, ms.',
  ),
  DUMONT_OWN_TOKEN_MS: envMs(3_600_000, 10_000, 604_800_000).describe(
    'How long the enrolment token of a machine of your own can be used, ms.',
  ),
  DUMONT_LOG_LEVEL: z.enum(LOG_LEVELS).default('info').describe('Least level that is logged.'),
});

export interface ControlConfig {
  readonly host: string;
  readonly port: number;
  readonly publicUrl: string | undefined;
  readonly dataDirectory: string;
  readonly storageName: StorageProviderName;
  readonly local: { readonly enabled: boolean; readonly directory: string; readonly bootScale: number };
  readonly vast: { readonly url: string; readonly image: string; readonly diskGb: number };
  readonly gateway: {
    /** Of the SSH addresses, both inclusive. */
    readonly ports: { readonly first: number; readonly last: number };
    readonly domain: string | undefined;
  };
  readonly heartbeatIntervalMs: number;
  readonly startGraceMs: number;
  readonly bootDeadlineMs: number;
  readonly downloadsDirectory: string;
  readonly agentUpgrade: 'manual' | 'auto';
  readonly credentialRotateMs: number;
  readonly ownTokenMs: number;
  readonly logLevel: (typeof LOG_LEVELS)[number];
}

/** Kept apart from the config, so that a config can be logged. */
export interface ControlSecrets {
  readonly databaseUrl: string | undefined;
  readonly apiToken: string | undefined;
  /** Undefined: nothing is rented at Vast.ai. */
  readonly vastApiKey: string | undefined;
  /** The operator's own access to the store; never leaves this process but with STORAGE_GRANTS=account. */
  readonly storage: DirectGrant;
  readonly grants: GrantPlan;
  /** Goes to the agents, which encrypt with it; nothing here uses it. */
  readonly snapshotPassword: string | undefined;
  readonly clouds: CloudSettings;
}

/** @throws {DumontError} USAGE naming every variable at fault */
export function readControlConfig(environment: Readonly<Record<string, string | undefined>>): {
  readonly config: ControlConfig;
  readonly secrets: ControlSecrets;
} {
  const env = readEnvironment(controlEnvironmentSchema, environment);
  const dataDirectory = resolve(env.DUMONT_DATA_DIR);
  const config: ControlConfig = {
    host: env.DUMONT_HOST,
    port: env.DUMONT_PORT,
    publicUrl: env.DUMONT_PUBLIC_URL,
    dataDirectory,
    storageName: env.STORAGE_PROVIDER,
    local: {
      enabled: env.DUMONT_LOCAL_PROVIDER,
      directory: resolve(env.DUMONT_LOCAL_DIR ?? join(dataDirectory, 'machines')),
      bootScale: env.DUMONT_LOCAL_BOOT_SCALE,
    },
    vast: { url: env.DUMONT_VAST_URL, image: env.DUMONT_VAST_IMAGE, diskGb: env.DUMONT_VAST_DISK_GB },
    gateway: { ports: portRange(env.DUMONT_GATEWAY_PORTS), domain: env.DUMONT_GATEWAY_DOMAIN },
    heartbeatIntervalMs: env.DUMONT_HEARTBEAT_MS,
    startGraceMs: env.DUMONT_START_GRACE_MS,
    bootDeadlineMs: env.DUMONT_BOOT_DEADLINE_MS,
    downloadsDirectory: resolve(env.DUMONT_DOWNLOADS_DIR ?? BUILT_RELEASES),
    agentUpgrade: env.DUMONT_AGENT_UPGRADE,
    credentialRotateMs: env.DUMONT_CREDENTIAL_ROTATE_MS,
    ownTokenMs: env.DUMONT_OWN_TOKEN_MS,
    logLevel: env.DUMONT_LOG_LEVEL,
  };
  const storage: DirectGrant =
    env.STORAGE_PROVIDER === 'file'
      ? { kind: 'file', path: resolve(env.FILE_STORE_PATH ?? join(dataDirectory, 'objects')), prefix: '' }
      : bucketGrant(env.STORAGE_PROVIDER, environment);
  return {
    config,
    secrets: {
      databaseUrl: env.DATABASE_URL,
      apiToken: env.DUMONT_API_TOKEN,
      vastApiKey: env.DUMONT_VAST_API_KEY,
      storage,
      grants: planGrants(env.STORAGE_GRANTS, storage, environment),
      snapshotPassword: env.SNAPSHOT_PASSWORD,
      clouds: readCloudSettings(env, env.DUMONT_PUBLIC_URL),
    },
  };
}

function portRange(text: string): { readonly first: number; readonly last: number } {
  const [first = 0, last = 0] = text.split('-').map(Number);
  return { first, last };
}

function bucketGrant(provider: BucketProviderName, env: Environment): BucketGrant {
  const reading = readBucketGrant(provider, env);
  if (reading.kind === 'grant') return reading.grant;
  const lines = reading.problems.map(({ text }) => `  ${text}`);
  throw new DumontError('USAGE', `STORAGE_PROVIDER=${provider} needs more:\n${lines.join('\n')}`, {
    field: reading.problems[0]?.name ?? 'STORAGE_PROVIDER',
    hint: 'Set them, or use STORAGE_PROVIDER=file.',
  });
}
