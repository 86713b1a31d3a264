import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { CloudSettings } from './cloud-settings.ts';
import { GcpProvider } from './gcp/gcp-provider.ts';
import { OrderQueue } from './order-queue.ts';
import type { Provider } from './provider.ts';
import { TensorDockProvider } from './tensordock/tensordock-provider.ts';

/** The clouds that are configured. Nothing is asked of them yet. */
export function cloudProviders(
  { gcp, tensordock }: CloudSettings,
  parts: { readonly clock: Clock; readonly random: Random; readonly log: Logger },
): readonly Provider[] {
  return [
    ...(gcp === undefined ? [] : [new GcpProvider({ ...gcp, ...parts })]),
    ...(tensordock === undefined
      ? []
      : [new TensorDockProvider({ ...tensordock, ...parts, orders: new OrderQueue() })]),
  ];
}
