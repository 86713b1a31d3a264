import { z } from 'zod';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { GCP_MACHINE_TYPES, GCP_ZONES, type GcpMachineType } from './gcp/gcp-offers.ts';
import type { GcpProviderOptions } from './gcp/gcp-provider.ts';
import type { TensorDockProviderOptions } from './tensordock/tensordock-provider.ts';

const text = z.string().min(1).optional();
const baseUrl = z
  .url({ protocol: /^https?$/ })
  .transform((url) => url.replace(/\/+$/, ''))
  .optional();

/** The least disk that TensorDock rents out. */
const TENSORDOCK_LEAST_DISK_GB = 100;

/** Environment variables of the clouds; each cloud is used once its first variable is set. */
export function cloudVariables() {
  return {
    DUMONT_GCP_PROJECT: text.describe('Project at Google Cloud to rent Spot standbys in; absent: none are.'),
    GOOGLE_APPLICATION_CREDENTIALS: text.describe("File with a service account's key for DUMONT_GCP_PROJECT."),
    DUMONT_GCP_CREDENTIALS: text.describe('That key itself, as JSON, in place of a file.'),
    DUMONT_GCP_MACHINE_TYPE: z
      .enum(GCP_MACHINE_TYPES as readonly [GcpMachineType, ...GcpMachineType[]])
      .default('e2-medium')
      .describe(`Type of the standbys: ${GCP_MACHINE_TYPES.join(', ')}.`),
    DUMONT_GCP_DISK_GB: z.coerce.number().int().min(10).max(65_536).default(100).describe('Disk of a standby, GB.'),
    DUMONT_GCP_ZONES: z
      .string()
      .min(1)
      .optional()
      .refine((zones) => zones === undefined || zonesIn(zones).every((zone) => GCP_ZONES.includes(zone)), {
        error: 'must be zones of Compute Engine with a known price, separated by commas',
      })
      .describe('Zones to rent in, separated by commas; default: all that are known.'),
    DUMONT_GCP_URL: baseUrl.describe('Where Compute Engine is; for a simulator.'),
    DUMONT_TENSORDOCK_API_KEY: text.describe('API token of TensorDock; absent: nothing is rented there.'),
    DUMONT_TENSORDOCK_SSH_KEY: z
      .string()
      .regex(/^(?:ssh|ecdsa)-\S+ \S+/, 'must be a public key as in id_ed25519.pub')
      .optional()
      .describe('SSH public key for machines of TensorDock, which starts none without.'),
    DUMONT_TENSORDOCK_DISK_GB: z.coerce
      .number()
      .int()
      .min(TENSORDOCK_LEAST_DISK_GB)
      .max(65_536)
      .default(TENSORDOCK_LEAST_DISK_GB)
      .describe('Disk of a machine of TensorDock, GB.'),
    DUMONT_TENSORDOCK_URL: baseUrl.describe("Base URL of TensorDock's API v2; for a simulator."),
  };
}

type CloudEnvironment = z.infer<z.ZodObject<ReturnType<typeof cloudVariables>>>;

/** What is needed to rent at each cloud; undefined where nothing is to be rented. Holds keys. */
export interface CloudSettings {
  readonly gcp: Pick<GcpProviderOptions, 'api' | 'shape' | 'zones'> | undefined;
  readonly tensordock: Pick<TensorDockProviderOptions, 'apiKey' | 'url' | 'sshPublicKey' | 'diskGb'> | undefined;
}

/**
 * @param publicUrl where machines elsewhere reach the control plane; without one a real cloud is of no use
 * @throws {DumontError} USAGE when a cloud is half configured
 */
export function readCloudSettings(env: CloudEnvironment, publicUrl: string | undefined): CloudSettings {
  const settings = { gcp: readGcp(env), tensordock: readTensorDock(env) };
  const isReal =
    (settings.gcp !== undefined && env.DUMONT_GCP_URL === undefined) ||
    (settings.tensordock !== undefined && env.DUMONT_TENSORDOCK_URL === undefined);
  if (isReal && publicUrl === undefined) {
    throw new DumontError('USAGE', 'machines of a cloud cannot reach this control plane without DUMONT_PUBLIC_URL', {
      field: 'DUMONT_PUBLIC_URL',
      hint: 'Set it to the https:// address under which this control plane is reached from the internet.',
    });
  }
  return settings;
}

function readGcp(env: CloudEnvironment): CloudSettings['gcp'] {
  const { DUMONT_GCP_PROJECT: projectId, DUMONT_GCP_URL: url, DUMONT_GCP_ZONES: zones } = env;
  if (projectId === undefined) return undefined;
  const json = env.DUMONT_GCP_CREDENTIALS;
  const file = env.GOOGLE_APPLICATION_CREDENTIALS;
  const credentials = json !== undefined ? { json } : file !== undefined ? { file } : undefined;
  if (credentials === undefined) {
    throw missing('GOOGLE_APPLICATION_CREDENTIALS', 'DUMONT_GCP_PROJECT', 'or DUMONT_GCP_CREDENTIALS');
  }
  return {
    api: { projectId, credentials, ...(url !== undefined && { url }) },
    shape: { machineType: env.DUMONT_GCP_MACHINE_TYPE, diskGb: env.DUMONT_GCP_DISK_GB },
    ...(zones !== undefined && { zones: zonesIn(zones) }),
  };
}

function readTensorDock(env: CloudEnvironment): CloudSettings['tensordock'] {
  const {
    DUMONT_TENSORDOCK_API_KEY: apiKey,
    DUMONT_TENSORDOCK_URL: url,
    DUMONT_TENSORDOCK_SSH_KEY: sshPublicKey,
  } = env;
  if (apiKey === undefined) return undefined;
  if (sshPublicKey === undefined) throw missing('DUMONT_TENSORDOCK_SSH_KEY', 'DUMONT_TENSORDOCK_API_KEY');
  return { apiKey, sshPublicKey, diskGb: env.DUMONT_TENSORDOCK_DISK_GB, ...(url !== undefined && { url }) };
}

function missing(field: string, because: string, besides = ''): DumontError {
  const names = besides === '' ? field : `${field} ${besides}`;
  return new DumontError('USAGE', `${because} is set, so ${names} must be too`, {
    field,
    hint: `Set it, or unset ${because}. control-plane/docs/GOING-LIVE.md has the steps.`,
  });
}

function zonesIn(list: string): readonly string[] {
  return list.split(',').map((zone) => zone.trim());
}
