import type { ProviderRegistry } from '../providers/provider.ts';
import type { InstanceRow } from '../store/instances.ts';
import { countryOfIp } from './ip-country.ts';
import { locate, placeOfCountry, type Place } from './locate.ts';

/**
 * Where a rented machine is: by what its provider says of its place, else by the country its address is registered in.
 * Undefined when neither says anything, or the provider does not answer.
 */
export async function placeOfMachine(
  parts: { readonly providers: ProviderRegistry },
  { offer, providerRef }: Pick<InstanceRow, 'offer' | 'providerRef'>,
  signal: AbortSignal,
): Promise<Place | undefined> {
  const named = locate(offer.region);
  if (named !== undefined || providerRef === null) return named;
  // A hint, not a need: who has no answer ranks without it.
  const machine = await parts.providers
    .get(offer.provider)
    ?.show(providerRef, { signal })
    .catch(() => null);
  signal.throwIfAborted();
  const country = await countryOfIp(machine?.probe?.host ?? machine?.ssh?.host ?? '');
  return country === null ? undefined : placeOfCountry(country);
}
