import { must } from '@dumont/shared/util/assert.ts';
import { WORKLOAD_STATES, type Heartbeat, type WorkloadState } from '@dumont/shared/protocol/heartbeat.ts';

/** The live fields of a heartbeat, as the main thread last wrote them. */
export interface BeatFields {
  /** Epoch of the assignment the agent acts under, 0 before the first. */
  readonly epoch: number;
  readonly gpuUtilPct: number | null;
  readonly unsavedMs: number;
  /** Absent while it is not known. */
  readonly unsavedBytes?: number | undefined;
  readonly workload: WorkloadState;
  /** What the standby does not have yet; absent without continuous sync. */
  readonly standbyBehindBytes?: number | undefined;
  readonly standbyBehindMs?: number | undefined;
  /** A standby's word on its primary, as of this write; absent while it has none. */
  readonly peer?: Heartbeat['peer'];
}

const SLOT = {
  pulse: 0,
  epoch: 1,
  gpuUtilCentiPct: 2,
  unsavedMs: 3,
  workload: 4,
  standbyBehindBytes: 5,
  standbyBehindMs: 6,
  peerEpoch: 7,
  peerHeardMsAgo: 8,
  unsavedBytes: 9,
} as const;
const SLOT_COUNT = Object.keys(SLOT).length;
const NO_GPU = -1n;
const UNKNOWN = -1n;
const NO_PEER = -1n;

/**
 * A few numbers in shared memory: the main thread writes them, the link thread reads them when it beats, and neither
 * waits for the other. Each slot is read and written atomically; different slots may be from different writes.
 */
export class BeatBoard {
  readonly buffer: SharedArrayBuffer;
  readonly #slots: BigInt64Array;

  /** @param buffer of another thread's board; absent: a fresh one */
  constructor(buffer?: SharedArrayBuffer) {
    this.buffer = buffer ?? new SharedArrayBuffer(SLOT_COUNT * BigInt64Array.BYTES_PER_ELEMENT);
    this.#slots = new BigInt64Array(this.buffer);
    if (buffer === undefined) this.write({ epoch: 0, gpuUtilPct: null, unsavedMs: 0, workload: 'unstarted' });
  }

  /** Writes the fields and counts as a sign of life of the writing thread. */
  write(fields: BeatFields): void {
    Atomics.store(this.#slots, SLOT.epoch, BigInt(fields.epoch));
    const util = fields.gpuUtilPct === null ? NO_GPU : BigInt(Math.round(fields.gpuUtilPct * 100));
    Atomics.store(this.#slots, SLOT.gpuUtilCentiPct, util);
    Atomics.store(this.#slots, SLOT.unsavedMs, BigInt(Math.max(0, Math.round(fields.unsavedMs))));
    Atomics.store(this.#slots, SLOT.workload, BigInt(WORKLOAD_STATES.indexOf(fields.workload)));
    for (const field of ['standbyBehindBytes', 'standbyBehindMs', 'unsavedBytes'] as const) {
      const value = fields[field];
      Atomics.store(this.#slots, SLOT[field], value === undefined ? UNKNOWN : BigInt(Math.max(0, Math.round(value))));
    }
    Atomics.store(this.#slots, SLOT.peerEpoch, BigInt(fields.peer?.epoch ?? 0));
    const heardMsAgo = fields.peer === undefined ? NO_PEER : BigInt(Math.round(fields.peer.heardMsAgo));
    Atomics.store(this.#slots, SLOT.peerHeardMsAgo, heardMsAgo);
    Atomics.add(this.#slots, SLOT.pulse, 1n);
  }

  read(): BeatFields {
    const util = Atomics.load(this.#slots, SLOT.gpuUtilCentiPct);
    const workload = WORKLOAD_STATES[Number(Atomics.load(this.#slots, SLOT.workload))];
    const behindBytes = Atomics.load(this.#slots, SLOT.standbyBehindBytes);
    const behindMs = Atomics.load(this.#slots, SLOT.standbyBehindMs);
    const peerEpoch = Number(Atomics.load(this.#slots, SLOT.peerEpoch));
    const heardMsAgo = Atomics.load(this.#slots, SLOT.peerHeardMsAgo);
    const unsavedBytes = Atomics.load(this.#slots, SLOT.unsavedBytes);
    const isSynced = behindBytes !== UNKNOWN && behindMs !== UNKNOWN;
    return {
      ...(isSynced ? { standbyBehindBytes: Number(behindBytes), standbyBehindMs: Number(behindMs) } : {}),
      ...(unsavedBytes === UNKNOWN ? {} : { unsavedBytes: Number(unsavedBytes) }),
      ...(heardMsAgo === NO_PEER ? {} : { peer: { epoch: peerEpoch, heardMsAgo: Number(heardMsAgo) } }),
      epoch: Number(Atomics.load(this.#slots, SLOT.epoch)),
      gpuUtilPct: util === NO_GPU ? null : Number(util) / 100,
      unsavedMs: Number(Atomics.load(this.#slots, SLOT.unsavedMs)),
      workload: must(workload, 'the board holds a workload state'),
    };
  }

  /** Changes with every write; a reader that sees the same number twice knows the writer has been silent between. */
  pulse(): bigint {
    return Atomics.load(this.#slots, SLOT.pulse);
  }
}
