import { randomBytes } from 'node:crypto';
import type { DirectGrant } from '@dumont/shared/protocol/storage-grant.ts';
import type { ConditionalPut } from '@dumont/shared/storage/storage-profile.ts';
import { DumontError, isDumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { FileStore } from './file-store.ts';
import type { CallOptions, ObjectStore } from './object-store.ts';
import { PrefixStore } from './prefix-store.ts';
import { probeConditionalPut, type ConditionalPutFinding } from './probe-conditional.ts';
import { RetryStore, type RetryOptions } from './retry-store.ts';

/** One thing tried. `note` says what it means, `hint` what to do about it. */
export interface ProbeCheck {
  readonly name: string;
  readonly outcome: 'ok' | 'warning' | 'failed' | 'skipped';
  readonly ms: number;
  readonly note: string;
  readonly hint?: string;
}

export interface StoreProbe {
  /** `limited`: snapshots work, but something beside them does not. */
  readonly verdict: 'ready' | 'limited' | 'unusable';
  /** The profile in use: `file`, `b2`, … */
  readonly profile: string;
  readonly checks: readonly ProbeCheck[];
  readonly conditionalPut: ConditionalPutFinding | 'unknown';
  /** How far the service's clock is ahead of this computer's, ms, to the second; null for a folder or without an answer. */
  readonly clockOffsetMs: number | null;
  readonly uploadBytesPerSecond: number | null;
  readonly downloadBytesPerSecond: number | null;
  /** Keys of the probe's own objects that it could not delete again. */
  readonly leftBehind: readonly string[];
}

export interface ProbeOptions extends RetryOptions, CallOptions {}

/** Keys of probes lie apart from everything a snapshot store holds. */
const PROBE_PREFIX = 'probes/';
/** Enough for a first idea of the link, little enough for a slow one. */
const SPEED_BYTES = 8 * 1024 * 1024;
/** Signatures are refused from a quarter of an hour on; half of that is worth a word. */
const SKEW_WARNING_MS = 450_000;

/**
 * Tries everything a snapshot store needs on throw-away objects below `probes/` and deletes them again. What does not
 * work is in the result, not thrown.
 * @throws {DumontError} ABORTED; USAGE for a bad prefix
 */
export async function probeStore(grant: DirectGrant, options: ProbeOptions): Promise<StoreProbe> {
  const target = await openTarget(grant, options);
  try {
    return await new Probe(target, options).run();
  } finally {
    await target.close();
  }
}

interface ProbeTarget {
  readonly store: ObjectStore;
  readonly profile: string;
  /** Stores of this profile leave conditional puts to the service. */
  readonly trustsConditions: boolean;
  /** What the store found out about conditional puts; null where they need no service. */
  readonly conditionalPut: () => ConditionalPut;
  readonly clockOffsetMs: () => number | null;
  readonly close: () => Promise<void>;
}

async function openTarget(grant: DirectGrant, options: RetryOptions): Promise<ProbeTarget> {
  if (grant.kind === 'file') {
    return {
      store: new PrefixStore(new FileStore(grant.path), grant.prefix),
      profile: 'file',
      trustsConditions: true,
      conditionalPut: () => 'yes',
      clockOffsetMs: () => null,
      close: () => Promise.resolve(),
    };
  }
  const { S3Store, profileOfGrant } = await import('./s3-store.ts');
  let offsetMs: number | null = null;
  const onServerTime = (serverMs: number) => {
    // The header names a second that has begun: on average half of it is over.
    offsetMs = serverMs + 500 - options.clock.nowMs();
  };
  const profile = profileOfGrant(grant);
  const store = new S3Store(grant, { conditionalPut: 'yes', onServerTime });
  return {
    store: new PrefixStore(new RetryStore(store, options), grant.prefix),
    profile: profile.name,
    trustsConditions: profile.conditionalPut === 'yes',
    conditionalPut: () => store.conditionalPut,
    clockOffsetMs: () => offsetMs,
    close: () => store[Symbol.asyncDispose](),
  };
}

class Probe {
  readonly #target: ProbeTarget;
  readonly #store: ObjectStore;
  readonly #options: ProbeOptions;
  readonly #prefix = `${PROBE_PREFIX}${randomBytes(16).toString('hex')}/`;
  readonly #checks: ProbeCheck[] = [];
  readonly #written = new Set<string>();
  #conditionalPut: StoreProbe['conditionalPut'] = 'unknown';

  constructor(target: ProbeTarget, options: ProbeOptions) {
    this.#target = target;
    this.#store = target.store;
    this.#options = options;
  }

  async run(): Promise<StoreProbe> {
    const { signal } = this.#options;
    const key = `${this.#prefix}object`;
    const bytes = randomBytes(1_000);
    const canPut = await this.#check('put', async () => {
      this.#written.add(key);
      await this.#store.put(key, bytes, { signal });
      return 'objects can be stored';
    });
    await this.#checkReads(key, bytes, canPut);
    const canList = await this.#check('list', async () => {
      const found: string[] = [];
      for await (const info of this.#store.list(this.#prefix, { signal })) found.push(info.key);
      if (canPut && !found.includes(key)) {
        throw new DumontError('UNSUPPORTED', 'an object just stored is not listed', {
          hint: 'A store whose listings lag is not safe to prune from two places; use a strongly consistent one.',
        });
      }
      return canPut ? 'an object shows up as soon as it is stored' : 'listings are allowed';
    });
    await this.#check('conditional put', () => this.#checkConditional(), canPut);
    const speed = await this.#checkSpeed(canPut && canList);
    await this.#checkDelete(canPut);
    this.#checkClock();
    return {
      verdict: this.#verdict(),
      profile: this.#target.profile,
      checks: this.#checks,
      conditionalPut: this.#conditionalPut,
      clockOffsetMs: this.#target.clockOffsetMs(),
      ...speed,
      leftBehind: [...this.#written],
    };
  }

  async #checkReads(key: string, bytes: Uint8Array, canPut: boolean): Promise<void> {
    const { signal } = this.#options;
    await this.#check(
      'get',
      async () => {
        if (Buffer.compare(await this.#store.get(key, { signal }), bytes) !== 0) throw otherBytes();
        return 'objects come back as they were stored';
      },
      canPut,
    );
    await this.#check(
      'range',
      async () => {
        const part = await this.#store.get(key, { range: { offset: 100, length: 50 }, signal });
        if (Buffer.compare(part, bytes.subarray(100, 150)) !== 0) throw otherBytes();
        return 'parts of objects can be read';
      },
      canPut,
    );
    await this.#check(
      'stat',
      async () => {
        const found = await this.#store.stat(key, { signal });
        if (found?.sizeBytes !== bytes.length) throw otherBytes();
        return 'objects can be looked at';
      },
      canPut,
    );
  }

  async #checkConditional(): Promise<string | Noted> {
    const finding = await probeConditionalPut({
      store: this.#store,
      prefix: this.#prefix,
      believes: this.#target.conditionalPut,
      written: this.#written,
      signal: this.#options.signal,
    });
    this.#conditionalPut = finding;
    switch (finding) {
      case 'works':
        return 'a taken key is refused, and of simultaneous writers one wins';
      case 'unsupported':
        return 'the service has none: the store looks before it writes, which snapshots are made for';
      case 'ignored':
        if (!this.#target.trustsConditions) {
          return 'the service ignores the condition, as its profile expects: the store looks before it writes';
        }
        return {
          outcome: 'warning',
          note: 'the service ignores the condition and overwrites, which its profile does not expect',
          hint: 'Name it as minio (STORAGE_PROVIDER, MINIO_…): then the store looks before it writes.',
        };
    }
  }

  async #checkSpeed(isPossible: boolean): Promise<Pick<StoreProbe, 'uploadBytesPerSecond' | 'downloadBytesPerSecond'>> {
    const { clock, signal } = this.#options;
    let [up, down]: (number | null)[] = [null, null];
    const measure = async (work: () => Promise<unknown>) => {
      const begunMs = clock.monotonicMs();
      await work();
      return (SPEED_BYTES / Math.max(1, clock.monotonicMs() - begunMs)) * 1_000;
    };
    await this.#check(
      'speed',
      async () => {
        const key = `${this.#prefix}speed`;
        const bytes = randomBytes(SPEED_BYTES);
        this.#written.add(key);
        up = await measure(() => this.#store.put(key, bytes, { signal }));
        down = await measure(() => this.#store.get(key, { signal }));
        const mb = (rate: number) => (rate / 1e6).toFixed(1);
        return `one request at a time: ${mb(up)} MB/s up, ${mb(down)} MB/s down; snapshots use many`;
      },
      isPossible,
    );
    return { uploadBytesPerSecond: up ?? null, downloadBytesPerSecond: down ?? null };
  }

  async #checkDelete(canPut: boolean): Promise<void> {
    const { signal } = this.#options;
    await this.#check(
      'delete',
      async () => {
        for (const key of this.#written) {
          await this.#store.delete(key, { signal });
          if ((await this.#store.stat(key, { signal })) !== null) {
            throw new DumontError('UNSUPPORTED', 'an object is still there after its delete');
          }
          this.#written.delete(key);
        }
        return 'old snapshots can be removed';
      },
      canPut,
    );
  }

  #checkClock(): void {
    const offsetMs = this.#target.clockOffsetMs();
    if (offsetMs === null) return;
    const seconds = Math.round(Math.abs(offsetMs) / 1_000);
    const isOff = Math.abs(offsetMs) > SKEW_WARNING_MS;
    const note = `this computer's clock is ${seconds} s ${offsetMs > 0 ? 'behind' : 'ahead of'} the service's`;
    const hint = 'Set it, for example with NTP: requests signed 15 minutes off are refused.';
    this.#checks.push({ name: 'clock', outcome: isOff ? 'warning' : 'ok', ms: 0, note, ...(isOff ? { hint } : {}) });
  }

  /** Tries one thing. @returns whether it worked */
  async #check(name: string, attempt: () => Promise<string | Noted>, isPossible = true): Promise<boolean> {
    if (!isPossible) {
      this.#checks.push({ name, outcome: 'skipped', ms: 0, note: 'needs what failed above' });
      return false;
    }
    const { clock } = this.#options;
    const begunMs = clock.monotonicMs();
    const end = (check: Noted) => this.#checks.push({ name, ms: Math.round(clock.monotonicMs() - begunMs), ...check });
    try {
      const said = await attempt();
      end(typeof said === 'string' ? { outcome: 'ok', note: said } : said);
      return true;
    } catch (error) {
      if (isDumontError(error, 'ABORTED')) throw error;
      const { message, hint } = toDumontError(error);
      end({ outcome: 'failed', note: message, ...(hint === undefined ? {} : { hint }) });
      return false;
    }
  }

  #verdict(): StoreProbe['verdict'] {
    const flawed = this.#checks.filter(({ outcome }) => outcome !== 'ok');
    if (flawed.length === 0) return 'ready';
    const isBeside = ({ name, outcome }: ProbeCheck) => outcome === 'warning' || name === 'delete' || name === 'speed';
    return flawed.every(isBeside) ? 'limited' : 'unusable';
  }
}

interface Noted {
  readonly outcome: ProbeCheck['outcome'];
  readonly note: string;
  readonly hint?: string;
}

function otherBytes(): DumontError {
  return new DumontError('CORRUPT', 'the store gives other bytes than were stored');
}
