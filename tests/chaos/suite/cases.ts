import type { Setting, Stage } from './stage.ts';

const HOUR_MS = 3_600_000;
/** Two for each way of thinking about it: far more than there are cores. */
const HOGS = 8;

/**
 * What must come of a fault: `failover`, another machine serves; `none`, the same machine serves at the same epoch, whatever
 * was prepared meanwhile.
 */
export type Expectation = 'failover' | 'none';

/** One fault, and what is promised of it. */
export interface ChaosCase {
  readonly name: string;
  /** For people, a few words. */
  readonly fault: string;
  readonly expects: Expectation;
  readonly setting?: Setting;
  /** Does it; a fault that passes is over when this resolves. */
  readonly inject: (stage: Stage) => Promise<void>;
  /** How long nothing may come of it, ms; for `none`. */
  readonly calmMs?: number;
}

/** The primary lives and tries to publish all the while. */
const EAGER: Setting = { policy: { snapshotIntervalMs: 500 } };

/** Every packet between these is lost. */
async function cut(stage: Stage, which: { readonly control?: Way; readonly sync?: Way }): Promise<void> {
  const [control, sync] = [await stage.controlFlows(stage.primary), await stage.syncFlows()];
  const flows = [
    ...(which.control === 'both' || which.control === 'out' ? control.out : []),
    ...(which.control === 'both' || which.control === 'in' ? control.in : []),
    ...(which.sync === 'both' || which.sync === 'out' ? sync.out : []),
    ...(which.sync === 'both' || which.sync === 'in' ? sync.in : []),
  ];
  await stage.filter.drop(flows);
}
type Way = 'both' | 'out' | 'in';

/** Stopped for so long. */
async function stall(stage: Stage, of: 'agent' | 'all', ms: number): Promise<void> {
  await stage.signal(stage.primary, 'SIGSTOP', of);
  await stage.sleep(ms);
  await stage.signal(stage.primary, 'SIGCONT', of);
}

const DEATHS: readonly ChaosCase[] = [
  {
    name: 'kill-agent',
    fault: 'SIGKILL of the agent',
    expects: 'none',
    inject: (stage) => stage.signal(stage.primary, 'SIGKILL', 'agent'),
  },
  {
    name: 'kill-machine',
    fault: 'SIGKILL of everything, disk gone',
    expects: 'failover',
    inject: (stage) => stage.site.faults.lose(stage.refOf(stage.primary), 'kill'),
  },
  {
    name: 'stop-agent',
    fault: 'SIGSTOP of the agent, work goes on',
    expects: 'failover',
    setting: EAGER,
    inject: (stage) => stage.signal(stage.primary, 'SIGSTOP', 'agent'),
  },
  {
    name: 'stop-machine',
    fault: 'SIGSTOP of everything',
    expects: 'failover',
    inject: (stage) => stage.site.faults.lose(stage.refOf(stage.primary), 'freeze'),
  },
  {
    name: 'blink-machine',
    fault: 'SIGSTOP of everything for 1.5 s',
    expects: 'none',
    inject: (stage) => stall(stage, 'all', 1_500),
  },
  {
    name: 'standby-death',
    fault: 'SIGKILL of the standby',
    expects: 'none',
    inject: async (stage) => {
      if (stage.standby !== null) await stage.site.faults.lose(stage.refOf(stage.standby), 'kill');
    },
  },
];

const NETWORK: readonly ChaosCase[] = [
  {
    name: 'link-down',
    fault: 'no packet in or out, host well',
    expects: 'failover',
    setting: EAGER,
    inject: (stage) => cut(stage, { control: 'both', sync: 'both' }),
  },
  {
    name: 'link-blink',
    fault: 'no packet in or out for 1.5 s',
    expects: 'none',
    inject: async (stage) => {
      await cut(stage, { control: 'both', sync: 'both' });
      await stage.sleep(1_500);
      await stage.filter.pass();
    },
  },
  {
    name: 'drop-out',
    fault: 'nothing leaves the machine',
    expects: 'failover',
    setting: EAGER,
    inject: (stage) => cut(stage, { control: 'out', sync: 'out' }),
  },
  {
    name: 'drop-in',
    fault: 'nothing reaches the machine',
    expects: 'failover',
    setting: EAGER,
    inject: (stage) => cut(stage, { control: 'in', sync: 'in' }),
  },
  {
    name: 'control-cut',
    fault: 'no control plane, standby hears it',
    expects: 'failover',
    setting: EAGER,
    inject: (stage) => cut(stage, { control: 'both' }),
  },
  {
    name: 'sync-cut',
    fault: 'no packet to the standby for 5 s',
    expects: 'none',
    inject: async (stage) => {
      await cut(stage, { sync: 'both' });
      await stage.sleep(5_000);
      await stage.filter.pass();
    },
  },
  {
    name: 'half-open',
    fault: 'gone without FIN, provider unaware',
    expects: 'failover',
    inject: async (stage) => {
      await stage.site.faults.lie(stage.refOf(stage.primary), 'running');
      await cut(stage, { control: 'both', sync: 'both' });
      await stage.signal(stage.primary, 'SIGKILL');
    },
  },
  {
    name: 'slow-lossy',
    fault: '300 ms each way, 2 % lost, for 12 s',
    expects: 'none',
    inject: async (stage) => {
      stage.relay.change({ delayMs: 300, lossShare: 0.02 });
      await stage.sleep(12_000);
      stage.relay.change({ delayMs: 0, lossShare: 0 });
    },
  },
];

const RESOURCES: readonly ChaosCase[] = [
  {
    name: 'cpu-hog',
    fault: `${HOGS} busy processes for 6 s`,
    expects: 'none',
    inject: async (stage) => {
      const end = stage.hogCpu(HOGS);
      await stage.sleep(6_000);
      end();
    },
  },
  {
    name: 'disk-full',
    fault: 'disk of the machines full for 4 s',
    expects: 'none',
    setting: { diskBytes: 64 * 1024 * 1024, policy: { snapshotIntervalMs: 500 } },
    inject: async (stage) => {
      const free = await stage.fillDisk();
      await stage.sleep(4_000);
      await free();
    },
  },
  {
    name: 'agent-clock',
    fault: "machine's wall clock ± 1 h",
    expects: 'none',
    setting: EAGER,
    inject: async (stage) => {
      for (const offsetMs of [HOUR_MS, -HOUR_MS, 0]) {
        await stage.stepAgentClock(stage.primary, offsetMs);
        await stage.sleep(2_000);
      }
    },
  },
  {
    name: 'control-clock',
    fault: "control plane's wall clock ± 1 h",
    expects: 'none',
    inject: async (stage) => {
      for (const offsetMs of [HOUR_MS, -HOUR_MS, 0]) {
        await stage.stepControlClock(offsetMs);
        await stage.sleep(2_000);
      }
    },
  },
];

const CONTROL_PLANE: readonly ChaosCase[] = [
  {
    name: 'control-pause',
    fault: 'control plane stopped for 2 s',
    expects: 'none',
    inject: (stage) => stage.controlPlane.pause(2_000),
  },
  {
    name: 'control-restart',
    fault: 'control plane killed and started',
    expects: 'none',
    inject: async (stage) => {
      await stage.controlPlane.kill();
      await stage.startControlPlane();
    },
  },
  {
    name: 'provider-says-running',
    fault: 'dead, provider says running',
    expects: 'failover',
    inject: async (stage) => {
      await stage.site.faults.lie(stage.refOf(stage.primary), 'running');
      await stage.signal(stage.primary, 'SIGKILL');
    },
  },
  {
    name: 'provider-says-gone',
    fault: 'well, provider says gone',
    expects: 'none',
    inject: (stage) => stage.site.faults.lie(stage.refOf(stage.primary), 'gone'),
  },
  {
    name: 'gone-in-a-stall',
    fault: 'stalls 1 s, provider says gone',
    expects: 'failover',
    setting: EAGER,
    inject: async (stage) => {
      await stage.site.faults.lie(stage.refOf(stage.primary), 'gone');
      await stall(stage, 'all', 1_000);
    },
  },
];

/** Every fault, in the order of the table. */
export const CASES: readonly ChaosCase[] = [...DEATHS, ...NETWORK, ...RESOURCES, ...CONTROL_PLANE];
