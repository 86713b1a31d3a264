import type { Logger } from '@dumont/shared/node/logger.ts';
import type { CredentialConfirm, CredentialPropose } from '@dumont/shared/protocol/credential.ts';
import { must } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { CredentialFile } from './credential-file.ts';
import { drawCredential } from './join.ts';

/** Until a change that came to nothing (a full disk, an answer that never came) is tried again. */
const RETRY_MS = 60_000;
/** Timers reach no farther than 2^31 − 1 ms. */
const MAX_TIMER_MS = 2_000_000_000;

/** What the rotator needs of the control link. */
export interface CredentialLink {
  send(message: CredentialPropose | CredentialConfirm): void;
  /** Says hello with this credential from the next connection on. */
  useCredential(credential: string): void;
}

/**
 * Replaces the agent's credential when it is old. At every moment one credential in the file admits the agent: the next
 * one is written down before it is proposed, becomes the only one after the control plane has it, and is confirmed after
 * that is on disk.
 */
export class CredentialRotator implements AsyncDisposable {
  readonly #file: CredentialFile;
  readonly #link: CredentialLink;
  readonly #clock: Clock;
  readonly #log: Logger;
  #rotateMs: number | undefined;
  #cancelTimer = () => {};
  #work: Promise<void> = Promise.resolve();
  #disposed = false;

  constructor(parts: {
    readonly file: CredentialFile;
    readonly link: CredentialLink;
    readonly clock: Clock;
    readonly log: Logger;
  }) {
    this.#file = parts.file;
    this.#link = parts.link;
    this.#clock = parts.clock;
    this.#log = parts.log;
  }

  /** The policy of the newest assignment: the age at which a credential is replaced, ms; undefined: never. */
  follow(rotateMs: number | undefined): void {
    if (rotateMs === this.#rotateMs) return;
    this.#rotateMs = rotateMs;
    this.#arm();
  }

  /** The link is up again: a proposal may have been lost with the connection, or with the process before. */
  online(): void {
    const next = this.#file.record?.next ?? null;
    if (next !== null) this.#link.send({ kind: 'credential-propose', credential: next });
  }

  /** The control plane stored the proposal. */
  accepted(): void {
    this.#inTurn(async () => {
      const record = must(this.#file.record, 'an agent that is online has a credential');
      // Said twice, for a proposal made twice.
      if (record.next === null) return;
      const credential = record.next;
      await this.#file.write({ ...record, credential, next: null, sinceMs: this.#clock.nowMs() });
      this.#link.useCredential(credential);
      this.#link.send({ kind: 'credential-confirm', credential });
      this.#log.info({ event: 'credential-replaced' }, 'the credential was replaced');
      this.#arm();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    this.#cancelTimer();
    await this.#work;
  }

  #propose(): void {
    this.#inTurn(async () => {
      const record = must(this.#file.record, 'an agent that runs has a credential');
      const next = record.next ?? drawCredential();
      if (record.next === null) await this.#file.write({ ...record, next });
      this.#link.send({ kind: 'credential-propose', credential: next });
    });
  }

  /** One change of the file after another; a failure leaves the credential as it was, until the next attempt. */
  #inTurn(work: () => Promise<void>): void {
    const guarded = async () => {
      if (this.#disposed) return;
      try {
        await work();
      } catch (error) {
        this.#log.warn({ event: 'credential-not-replaced', err: error }, 'the credential could not be replaced');
      }
    };
    this.#work = this.#work.then(guarded);
  }

  #arm(): void {
    this.#cancelTimer();
    if (this.#rotateMs === undefined || this.#disposed) return;
    const dueInMs = this.#dueInMs(this.#rotateMs);
    this.#cancelTimer = this.#clock.after(Math.min(dueInMs, MAX_TIMER_MS), () => this.#onTimer());
  }

  #onTimer(): void {
    const rotateMs = must(this.#rotateMs, 'the timer runs for a period');
    if (this.#dueInMs(rotateMs) > 0) {
      this.#arm();
      return;
    }
    this.#propose();
    this.#cancelTimer = this.#clock.after(RETRY_MS, () => this.#onTimer());
  }

  /** A wall clock that was set back must not put it off by more than a period. */
  #dueInMs(rotateMs: number): number {
    const sinceMs = this.#file.record?.sinceMs ?? 0;
    const ageMs = Math.max(0, this.#clock.nowMs() - sinceMs);
    return Math.max(0, rotateMs - ageMs);
  }
}
