import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { assert } from '@dumont/shared/util/assert.ts';

const run = promisify(execFile);

/** Where the table of local addresses goes, so that rules can stand before it. */
const LOCAL_PRIORITY = 1_000;
const FIRST_PRIORITY = 10;

/** TCP packets to a port of loopback, or from it. */
export type Flow = { readonly to: number } | { readonly from: number };

/**
 * Loses packets inside the kernel, one direction at a time: connections stand and carry nothing, as on a real network that
 * is cut. It works by routing rules, which every kernel has, so it needs a network namespace of its own.
 */
export class PacketFilter implements AsyncDisposable {
  #priorities: number[] = [];

  /** Makes the loopback of this namespace obey rules; once, before anything listens. */
  static async prepare(): Promise<void> {
    await ip('link', 'set', 'lo', 'up');
    await ip('rule', 'add', 'pref', String(LOCAL_PRIORITY), 'lookup', 'local');
    await ip('rule', 'del', 'pref', '0');
  }

  /** From now on these packets are lost, besides those that already are. */
  async drop(flows: readonly Flow[]): Promise<void> {
    for (const flow of flows) {
      const priority = (this.#priorities.at(-1) ?? FIRST_PRIORITY - 1) + 1;
      assert(priority < LOCAL_PRIORITY, 'a fault has fewer flows');
      const match = 'to' in flow ? ['dport', String(flow.to)] : ['sport', String(flow.from)];
      await ip('rule', 'add', 'pref', String(priority), 'ipproto', 'tcp', ...match, 'blackhole');
      this.#priorities.push(priority);
    }
  }

  /** Every packet arrives again; those that TCP still holds are sent anew. */
  async pass(): Promise<void> {
    for (const priority of this.#priorities.splice(0)) await ip('rule', 'del', 'pref', String(priority));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.pass();
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  await run('ip', args);
}
