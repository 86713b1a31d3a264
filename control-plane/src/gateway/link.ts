import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Clock } from '@dumont/shared/util/clock.ts';
import type { GatewayLimits } from './gateway-limits.ts';

/**
 * Joins a user's connection with one to a machine: bytes flow both ways with back-pressure, an end of one direction is
 * passed on and leaves the other open, a failure of one side takes the other along. Owns both.
 */
export class Link {
  readonly #user: Duplex;
  readonly #machine: Duplex;
  readonly #clock: Clock;
  readonly #limits: Pick<GatewayLimits, 'lingerMs' | 'halfOpenIdleMs'>;
  readonly #closed = Promise.withResolvers<void>();
  #isHungUp = false;

  constructor(
    ends: { readonly user: Duplex; readonly machine: Duplex },
    options: { readonly clock: Clock; readonly limits: Pick<GatewayLimits, 'lingerMs' | 'halfOpenIdleMs'> },
  ) {
    this.#user = ends.user;
    this.#machine = ends.machine;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#follow(this.#user, this.#machine);
    this.#follow(this.#machine, this.#user);
    this.#user.pipe(this.#machine);
    this.#machine.pipe(this.#user);
  }

  /** Resolves when the user's side is closed. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /**
   * Ends the user's side in good order: what the machine has sent is delivered, then `farewell`, then the end. A user
   * that does not close its own side in time is cut off. Idempotent.
   */
  hangUp(farewell: () => Uint8Array | null = () => null): void {
    if (this.#isHungUp) return;
    this.#isHungUp = true;
    this.#machine.unpipe(this.#user);
    this.#user.unpipe(this.#machine);
    if (!this.#user.writableEnded && !this.#user.destroyed) {
      for (let rest = readRest(this.#machine); rest !== null; rest = readRest(this.#machine)) this.#user.write(rest);
      const last = farewell();
      if (last !== null) this.#user.write(last);
      this.#user.end();
    }
    this.#machine.destroy();
    // What the user still sends has no receiver; reading it is how its end is noticed.
    this.#user.resume();
    const cancel = this.#clock.after(this.#limits.lingerMs, () => this.#user.destroy());
    void this.closed.then(cancel);
  }

  #follow(side: Duplex, other: Duplex): void {
    // An error is always followed by the close, which is where it is dealt with.
    side.on('error', ignore);
    side.once('end', () => {
      for (const each of [side, other]) dropWhenIdle(each, this.#limits.halfOpenIdleMs);
    });
    side.once('close', () => {
      if (side === this.#user) this.#closed.resolve();
      if (this.#isHungUp) return;
      const isOrderly = side.readableEnded && side.writableFinished;
      if (!isOrderly || side === this.#user) other.destroy();
    });
    if (side.destroyed) side.emit('close');
  }
}

function readRest(stream: Duplex): Uint8Array | null {
  return stream.destroyed ? null : (stream.read() as Uint8Array | null);
}

function dropWhenIdle(stream: Duplex, ms: number): void {
  const socket = stream as Partial<Socket>;
  socket.setTimeout?.(ms, () => stream.destroy());
}

function ignore(): void {}
