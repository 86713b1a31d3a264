import { GcpProvider, type GcpProviderOptions } from '@dumont/control-plane/providers/gcp/gcp-provider.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { GcpSimulator } from '../simulators/gcp/gcp-simulator.ts';
import { InstallerServer } from '../world/installer-server.ts';

/** An empty project at a simulated Google, and a place for its machines to report to. */
export class GcpWorld implements AsyncDisposable {
  readonly simulator: GcpSimulator;
  readonly installer: InstallerServer;
  readonly provider: GcpProvider;

  private constructor(simulator: GcpSimulator, installer: InstallerServer) {
    this.simulator = simulator;
    this.installer = installer;
    this.provider = this.another();
  }

  static async open(): Promise<GcpWorld> {
    return new GcpWorld(await GcpSimulator.open(), await InstallerServer.open());
  }

  get agentEnvironment(): Readonly<Record<string, string>> {
    return { DUMONT_CONTROL_URL: this.installer.url, DUMONT_ENROL_TOKEN: "it's one-time" };
  }

  another(options: Partial<GcpProviderOptions> = {}): GcpProvider {
    const { projectId, credentials, url, sshPort } = this.simulator;
    return new GcpProvider({
      api: { projectId, credentials: { json: credentials }, url },
      shape: { machineType: 'e2-medium', diskGb: 50 },
      sshPort,
      clock: systemClock,
      log: createLogger('conformance', 'silent'),
      ...options,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.simulator[Symbol.asyncDispose]();
    await this.installer[Symbol.asyncDispose]();
  }
}
