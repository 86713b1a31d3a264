import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { ControlConfig, ControlSecrets } from '../config.ts';
import { cloudProviders } from './cloud-providers.ts';
import { loadCompute } from './gcp/compute-api.ts';
import { LocalProvider } from './local/local-provider.ts';
import type { Provider, ProviderRegistry } from './provider.ts';
import { openVast } from './vast/open-vast.ts';

export interface OpenProvidersOptions {
  readonly config: ControlConfig;
  readonly secrets: ControlSecrets;
  /** Program and arguments that a local machine runs as its agent. */
  readonly agentCommand: readonly string[];
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

/** Everybody who is configured to rent machines out, ready to be asked. */
export async function openProviders(options: OpenProvidersOptions): Promise<ProviderRegistry> {
  // Now: later it would hold up heartbeats.
  if (options.secrets.clouds.gcp !== undefined) await loadCompute();
  const ours = [localProvider(options), await vastProvider(options)].filter((provider) => provider !== undefined);
  const found = [...ours, ...cloudProviders(options.secrets.clouds, options)];
  return new Map(found.map((provider) => [provider.name, provider]));
}

function localProvider({ config, ...parts }: OpenProvidersOptions): Provider | undefined {
  const { enabled, directory: root, bootScale } = config.local;
  return enabled ? new LocalProvider({ ...parts, root, bootScale }) : undefined;
}

async function vastProvider({ config, secrets, ...parts }: OpenProvidersOptions): Promise<Provider | undefined> {
  const { vastApiKey: apiKey } = secrets;
  return apiKey === undefined ? undefined : openVast({ ...parts, ...config.vast, apiKey });
}
