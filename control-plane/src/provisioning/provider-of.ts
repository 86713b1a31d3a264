import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Provider, ProviderRegistry } from '../providers/provider.ts';

/** @throws {DumontError} UNSUPPORTED when the provider is not configured (any more). */
export function providerOf(providers: ProviderRegistry, name: string): Provider {
  const provider = providers.get(name);
  if (provider !== undefined) return provider;
  throw new DumontError('UNSUPPORTED', `provider ${name} is not configured`, {
    hint: `Configured: ${[...providers.keys()].join(', ')}.`,
  });
}
