import { readControlConfig } from '@dumont/control-plane/config.ts';
import { startControlPlane, type ControlPlane, type ControlPlaneOptions } from '@dumont/control-plane/context.ts';
import { LocalProvider } from '@dumont/control-plane/providers/local/local-provider.ts';
import type { Provider, ProviderRef } from '@dumont/control-plane/providers/provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { AGENT_MAIN, type Site } from './site.ts';

const AGENT_COMMAND = [process.execPath, AGENT_MAIN, 'run'];

/** A control plane of the site in this process, for tests that stand between it and its provider. */
export function startInProcess(
  site: Site,
  overrides: NonNullable<ControlPlaneOptions['overrides']> = {},
  environment: Readonly<Record<string, string>> = {},
): Promise<ControlPlane> {
  const { config, secrets } = readControlConfig(site.environment(environment));
  const log = createLogger('control-plane', 'silent');
  return startControlPlane({ config, secrets, log, agentCommand: AGENT_COMMAND, overrides });
}

/** The site's provider as a control plane uses it, except that some of its machines cannot be destroyed for now. */
export class StubbornProvider implements Provider {
  readonly name = 'local';
  readonly kept = new Set<ProviderRef>();
  readonly #provider: LocalProvider;
  readonly searchOffers: Provider['searchOffers'];
  readonly create: Provider['create'];
  readonly show: Provider['show'];
  readonly list: Provider['list'];

  constructor(site: Site) {
    const { config } = readControlConfig(site.environment());
    const provider = new LocalProvider({
      root: config.local.directory,
      agentCommand: AGENT_COMMAND,
      clock: systemClock,
      random: systemRandom,
      log: createLogger('provider', 'silent'),
      bootScale: config.local.bootScale,
    });
    this.#provider = provider;
    this.searchOffers = (options) => provider.searchOffers(options);
    this.create = (request, options) => provider.create(request, options);
    this.show = (ref, options) => provider.show(ref, options);
    this.list = (options) => provider.list(options);
  }

  destroy(ref: ProviderRef, options: { readonly signal: AbortSignal }): Promise<void> {
    if (!this.kept.has(ref)) return this.#provider.destroy(ref, options);
    return Promise.reject(new DumontError('UNAVAILABLE', `${ref} cannot be destroyed now`, { retryable: true }));
  }
}
