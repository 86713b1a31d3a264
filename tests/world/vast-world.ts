import { VastApi } from '@dumont/control-plane/providers/vast/vast-api.ts';
import { VastProvider } from '@dumont/control-plane/providers/vast/vast-provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import {
  startVastSimulator,
  type VastSimulator,
  type VastSimulatorOptions,
} from '../simulators/vast/vast-simulator.ts';
import { fastClock } from './fast-clock.ts';

/** Limits pass so many times as fast, on both sides: pauses of seconds cost tenths, and are kept all the same. */
const LIMIT_SPEED = 10;
const BOOT_SPEED = 100;

/** The adapter and a simulated service for it, on clocks that run faster than life. */
export class VastWorld implements AsyncDisposable {
  readonly simulator: VastSimulator;
  readonly provider: VastProvider;

  private constructor(simulator: VastSimulator) {
    this.simulator = simulator;
    this.provider = this.another();
  }

  /** A calm market, unless the options say otherwise. */
  static async open(options: VastSimulatorOptions = {}): Promise<VastWorld> {
    const speeds = { limitSpeed: LIMIT_SPEED, speed: BOOT_SPEED };
    return new VastWorld(await startVastSimulator({ ...speeds, isCalm: true, ...options }));
  }

  /** Another adapter on the same account, as after a restart: it knows nothing of the first one's calls. */
  another(apiKey = this.simulator.apiKey): VastProvider {
    const clock = fastClock(LIMIT_SPEED);
    const parts = { clock, log: createLogger('vast', 'silent') };
    const api = new VastApi({ apiKey, baseUrl: this.simulator.url, random: seededRandom(3), clock });
    const machine = { image: 'ubuntu:24.04', diskGb: 20, onstart: 'echo started >/root/started', isLocal: true };
    return new VastProvider({ api, ...parts, ...machine });
  }

  [Symbol.asyncDispose](): PromiseLike<void> {
    return this.simulator[Symbol.asyncDispose]();
  }
}
