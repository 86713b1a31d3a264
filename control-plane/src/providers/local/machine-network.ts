import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';

/** Greets like an sshd, which is what answers on a rented machine. */
const BANNER = 'SSH-2.0-DumontLocal\r\n';

/** An agent holds a few connections; beyond this something loops, and the newest is turned away. */
const MAX_CONNECTIONS = 256;

/**
 * Connections kept unanswered while cut. A caller that gave up cannot be told from one that waits, so beyond this the
 * oldest is dropped.
 */
const MAX_WAITING = 64;

/** A probe that does not hang up by itself is hung up on, so that probes cannot pile up. */
const PROBE_IDLE_MS = 10_000;

export interface ControlAddress {
  readonly host: string;
  readonly port: number;
}

/** What the machine offers to the outside: each inner port of its own address is reached at a random outer one. */
export interface Inbound {
  /** The loopback address that is the machine's own. */
  readonly host: string;
  readonly ports: readonly number[];
}

/**
 * The network of one machine: a probe port that answers with a banner, and the uplink, a relay on the loopback through
 * which the agent reaches the control plane. Ports opened to the outside are relays of the same kind, the other way round.
 * While cut, all fall silent as a real network does: connections that stand
 * stay open and carry nothing, new ones are accepted and never answered. Healing delivers what was held back.
 */
export class MachineNetwork implements AsyncDisposable {
  readonly #probe: Server;
  readonly #uplink: Server;
  readonly #control: ControlAddress | null;
  /** By inner port. */
  readonly #inbound: ReadonlyMap<number, Server>;
  readonly #links = new Set<Link>();
  /** Connections accepted while cut; each waits for its treatment by {@link heal}. */
  readonly #waiting = new Map<Socket, () => void>();
  #cut: boolean;

  private constructor(control: ControlAddress | null, options: { readonly cut: boolean; readonly inbound?: Inbound }) {
    this.#control = control;
    this.#cut = options.cut;
    const { host, ports } = options.inbound ?? { host: '', ports: [] };
    this.#inbound = new Map(ports.map((port) => [port, this.#relayTo({ host, port })]));
    this.#probe = createServer((socket) => this.#accept(socket, () => greet(socket)));
    this.#uplink = createServer({ allowHalfOpen: true }, (socket) =>
      this.#accept(socket, () => this.#relay(socket, this.#control)),
    );
    this.#probe.maxConnections = MAX_CONNECTIONS;
    this.#uplink.maxConnections = MAX_CONNECTIONS;
  }

  /** Listens on free loopback ports. Without a control plane the uplink hangs up on everyone. */
  static async open(
    control: ControlAddress | null,
    options: { readonly cut: boolean; readonly inbound?: Inbound },
  ): Promise<MachineNetwork> {
    const network = new MachineNetwork(control, options);
    for (const server of network.#servers) {
      server.listen(0, '127.0.0.1');
      await once(server, 'listening');
    }
    return network;
  }

  get probePort(): number {
    return portOf(this.#probe);
  }

  get uplinkPort(): number {
    return portOf(this.#uplink);
  }

  /** Outer ports by inner ones. */
  get inboundPorts(): ReadonlyMap<number, number> {
    return new Map([...this.#inbound].map(([inner, server]) => [inner, portOf(server)]));
  }

  get isCut(): boolean {
    return this.#cut;
  }

  /** Takes effect before it returns; idempotent. */
  cut(): void {
    this.#cut = true;
    for (const link of this.#links) link.hold();
  }

  /** Takes effect before it returns; idempotent. */
  heal(): void {
    this.#cut = false;
    for (const link of this.#links) link.resume();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const treat of waiting) treat();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#links) link.destroy();
    for (const socket of this.#waiting.keys()) socket.destroy();
    this.#waiting.clear();
    await Promise.all(this.#servers.map(closeServer));
  }

  get #servers(): readonly Server[] {
    return [this.#probe, this.#uplink, ...this.#inbound.values()];
  }

  #relayTo(target: ControlAddress): Server {
    const server = createServer({ allowHalfOpen: true }, (socket) =>
      this.#accept(socket, () => this.#relay(socket, target)),
    );
    server.maxConnections = MAX_CONNECTIONS;
    return server;
  }

  #accept(socket: Socket, treat: () => void): void {
    // Errors of a socket end in its close, which is handled where it matters.
    socket.on('error', ignore);
    if (!this.#cut) {
      treat();
      return;
    }
    socket.pause();
    const [oldest] = this.#waiting.keys();
    if (this.#waiting.size >= MAX_WAITING) oldest?.destroy();
    this.#waiting.set(socket, treat);
    socket.once('close', () => this.#waiting.delete(socket));
  }

  #relay(caller: Socket, target: ControlAddress | null): void {
    if (target === null) {
      caller.destroy();
      return;
    }
    const link = new Link(caller, connect({ ...target, allowHalfOpen: true }), () => this.#links.delete(link));
    this.#links.add(link);
  }
}

/** One relayed connection. Held, it reads nothing on either side and passes no ending on. */
class Link {
  readonly #sides: readonly [Socket, Socket];
  #held = false;
  #endedWhileHeld = false;

  constructor(callerSide: Socket, targetSide: Socket, onClosed: () => void) {
    this.#sides = [callerSide, targetSide];
    this.#forward(callerSide, targetSide);
    this.#forward(targetSide, callerSide);
    let open = this.#sides.length;
    for (const side of this.#sides) {
      side.on('error', ignore);
      side.setNoDelay(true);
      side.once('close', () => {
        open -= 1;
        if (open === 0) onClosed();
        // After an orderly end the other side has its own end queued behind the last bytes.
        else if (!side.readableEnded) this.#breakOff();
      });
    }
  }

  hold(): void {
    this.#held = true;
    for (const side of this.#sides) side.pause();
  }

  resume(): void {
    this.#held = false;
    if (this.#endedWhileHeld) this.destroy();
    for (const side of this.#sides) side.resume();
  }

  /** Not by a reset: libuv refuses to reset a socket whose end is on its way, and it would then never close. */
  destroy(): void {
    for (const side of this.#sides) side.destroy();
  }

  #forward(from: Socket, to: Socket): void {
    from.on('data', (bytes: Buffer) => {
      if (!to.write(bytes)) from.pause();
    });
    to.on('drain', () => {
      if (!this.#held) from.resume();
    });
    from.on('end', () => to.end());
    // One accepted during a cut was paused until now.
    from.resume();
  }

  #breakOff(): void {
    if (this.#held) this.#endedWhileHeld = true;
    else this.destroy();
  }
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

function greet(socket: Socket): void {
  socket.setTimeout(PROBE_IDLE_MS, () => socket.destroy());
  socket.resume();
  socket.write(BANNER);
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  const closed = once(server, 'close');
  server.close();
  await closed;
}

function ignore(): void {}
