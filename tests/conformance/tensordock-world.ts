import { OrderQueue } from '@dumont/control-plane/providers/order-queue.ts';
import {
  TensorDockProvider,
  type TensorDockProviderOptions,
} from '@dumont/control-plane/providers/tensordock/tensordock-provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { TensorDockSimulator } from '../simulators/tensordock/tensordock-simulator.ts';
import { InstallerServer } from '../world/installer-server.ts';

/** An empty account at a simulated TensorDock, and a place for its machines to report to. */
export class TensorDockWorld implements AsyncDisposable {
  readonly simulator: TensorDockSimulator;
  readonly installer: InstallerServer;
  readonly provider: TensorDockProvider;
  readonly #orders = new OrderQueue();

  private constructor(simulator: TensorDockSimulator, installer: InstallerServer) {
    this.simulator = simulator;
    this.installer = installer;
    this.provider = this.another();
  }

  static async open(): Promise<TensorDockWorld> {
    return new TensorDockWorld(await TensorDockSimulator.open(), await InstallerServer.open());
  }

  get agentEnvironment(): Readonly<Record<string, string>> {
    return { DUMONT_CONTROL_URL: this.installer.url, DUMONT_ENROL_TOKEN: 'one-time' };
  }

  another(options: Partial<TensorDockProviderOptions> = {}): TensorDockProvider {
    return new TensorDockProvider({
      apiKey: this.simulator.apiKey,
      url: this.simulator.url,
      sshPublicKey: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA dumont',
      diskGb: 100,
      // Tests look at a machine more often than a control plane does.
      limit: { calls: 10_000, perMs: 60_000 },
      orders: this.#orders,
      clock: systemClock,
      random: seededRandom(7),
      log: createLogger('conformance', 'silent'),
      ...options,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.simulator[Symbol.asyncDispose]();
    await this.installer[Symbol.asyncDispose]();
  }
}
