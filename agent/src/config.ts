import { describeEnvironment, readEnvironment } from '@dumont/shared/node/config.ts';
import { LOG_LEVELS, type LogLevel } from '@dumont/shared/node/logger.ts';
import { credentialSchema } from '@dumont/shared/protocol/primitives.ts';
import { AGENT_SOCKET_PATH } from '@dumont/shared/protocol/version.ts';
import { z } from 'zod';
import { sizeOf } from './commands/flag-values.ts';
import { GCE_METADATA_ADDRESS } from './host/preemption-watch.ts';
import { withoutOwnTunables } from './host/own-tunables.ts';
import { withoutSecretVariables } from './host/secret-variables.ts';

/** Slower than this a snapshot never ends: surely a unit was forgotten. */
const MIN_UPLOAD_BYTES_PER_SECOND = 64 * 1024;

/** Every environment variable of the agent; `--help` and install/env.example are made from it. */
export const agentEnvironmentSchema = z.object({
  DUMONT_CONTROL_URL: z
    .url({ protocol: /^(?:ws|http)s?$/, error: 'must be a ws://, wss://, http:// or https:// URL' })
    .describe('Base URL of the control plane.'),
  DUMONT_ENROL_TOKEN: credentialSchema
    .optional()
    .describe('One-time token to join the control plane with; of no use, and not needed, once that is done.'),
  DUMONT_WORKSPACE_DIR: z.string().min(1).default('/workspace').describe('The folder kept alive.'),
  DUMONT_STATE_DIR: z
    .string()
    .min(1)
    .default('/var/lib/dumont-agent')
    .describe("The agent's own files: its credential, its state and the workload's log."),
  DUMONT_INSTALL_DIR: z
    .string()
    .min(1)
    .optional()
    .describe('Where this agent is installed, set by its supervisor; absent: it cannot upgrade itself.'),
  DUMONT_NVIDIA_SMI: z.string().min(1).default('nvidia-smi').describe('Name or path of nvidia-smi.'),
  DUMONT_FILE_STORE_MOUNT: z
    .string()
    .min(1)
    .optional()
    .describe('Where this host mounts the folder of a file object store, if elsewhere than the control plane.'),
  DUMONT_MACHINE_HOST: z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe('Address that a standby listens on for sync, if not all of this machine.'),
  DUMONT_MAX_UPLOAD: z
    .string()
    .transform((text, context) => {
      const rate = sizeOf(text.replace(/\/s$/i, ''));
      if (rate !== null && rate >= MIN_UPLOAD_BYTES_PER_SECOND) return rate;
      context.addIssue({ code: 'custom', message: 'must be bytes a second of at least 64KiB, such as 20MB' });
      return z.NEVER;
    })
    .optional()
    .describe('Most bytes a second that leave this host, such as 20MB: sync first, snapshots get what it leaves.'),
  SNAPSHOT_PASSWORD: z
    .string()
    .min(1)
    .max(1_024)
    .optional()
    .describe('Password that encrypts snapshots before they leave this host; absent: they are stored in clear.'),
  GCE_METADATA_HOST: z
    .string()
    .min(1)
    .max(255)
    .regex(/^[A-Za-z0-9.:[\]-]+$/, 'must be a host, or a host and a port')
    .default(GCE_METADATA_ADDRESS)
    .describe("Google's metadata server, which tells when a spot machine is taken back; elsewhere nothing answers."),
  DUMONT_LOG_LEVEL: z
    .enum(LOG_LEVELS)
    .default('info')
    .describe(`Least severity logged: ${LOG_LEVELS.join(', ')}.`),
});

export interface AgentConfig {
  /** Base URL of the control plane, http or https, without a slash at its end. */
  readonly controlUrl: string;
  /** Full URL of the agent socket. */
  readonly socketUrl: string;
  readonly workspaceDir: string;
  readonly stateDir: string;
  readonly installDir: string | null;
  readonly nvidiaSmi: string;
  readonly fileStoreMount: string | null;
  /** Where a standby listens; null: where its assignment says. */
  readonly machineHost: string | null;
  /** Host, or host:port, of Google's metadata server. */
  readonly metadataHost: string;
  /** Null: as fast as the link goes. */
  readonly maxUploadBytesPerSecond: number | null;
  readonly logLevel: LogLevel;
  /** What the user's command sees: the agent's own environment without its secrets and its supervisor's tunables. */
  readonly workloadEnvironment: Readonly<Record<string, string>>;
  /** Apart from the rest, so that logging the configuration cannot leak it. */
  readonly secrets: { readonly enrolToken: string | null; readonly snapshotPassword: string | null };
}

/** @throws {DumontError} USAGE naming every variable at fault. */
export function readAgentConfig(environment: Readonly<Record<string, string | undefined>>): AgentConfig {
  const env = readEnvironment(agentEnvironmentSchema, environment);
  return {
    controlUrl: withScheme(env.DUMONT_CONTROL_URL, 'http').replace(/\/$/, ''),
    socketUrl: socketUrlOf(env.DUMONT_CONTROL_URL),
    workspaceDir: env.DUMONT_WORKSPACE_DIR,
    stateDir: env.DUMONT_STATE_DIR,
    installDir: env.DUMONT_INSTALL_DIR ?? null,
    nvidiaSmi: env.DUMONT_NVIDIA_SMI,
    fileStoreMount: env.DUMONT_FILE_STORE_MOUNT ?? null,
    machineHost: env.DUMONT_MACHINE_HOST ?? null,
    metadataHost: env.GCE_METADATA_HOST,
    maxUploadBytesPerSecond: env.DUMONT_MAX_UPLOAD ?? null,
    logLevel: env.DUMONT_LOG_LEVEL,
    workloadEnvironment: withoutOwnTunables(withoutSecretVariables(environment)),
    secrets: { enrolToken: env.DUMONT_ENROL_TOKEN ?? null, snapshotPassword: env.SNAPSHOT_PASSWORD ?? null },
  };
}

/** The table of variables for `--help`. */
export function agentEnvironmentTable(): string {
  const rows = describeEnvironment(agentEnvironmentSchema);
  const width = Math.max(...rows.map((row) => row.name.length));
  return rows
    .map((row) => {
      const fallback = row.defaultText === '' ? '' : ` [${row.defaultText.replace(/^\((.*)\)$/, '$1')}]`;
      return `  ${row.name.padEnd(width)}  ${row.description}${fallback}`;
    })
    .join('\n');
}

/** The agent socket's URL: `http` becomes `ws`, the path is appended to the base's own. */
function socketUrlOf(controlUrl: string): string {
  const url = new URL(withScheme(controlUrl, 'ws'));
  url.pathname = url.pathname.replace(/\/$/, '') + AGENT_SOCKET_PATH;
  return url.href;
}

/** The URL with `http`/`ws` turned into the one wanted; TLS stays TLS. */
function withScheme(controlUrl: string, scheme: 'http' | 'ws'): string {
  const url = new URL(controlUrl);
  url.protocol = url.protocol.replace(/^(?:http|ws)/, scheme);
  return url.href;
}
