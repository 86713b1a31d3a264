import type { CheckReport, WorkloadCheck } from '@dumont/shared/model/workload-check.ts';
import { assertNever } from '@dumont/shared/util/assert.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { Deadline } from '@dumont/shared/util/deadline.ts';
import { DumontError, isDumontError } from '@dumont/shared/util/errors.ts';
import { askServer } from './ask-server.ts';
import type { Answer, AskOptions, Generated, ModelServer } from './model-server.ts';
import { ollamaServer } from './ollama.ts';
import { vllmServer } from './vllm.ts';

/** Between two questions to a server that is not ready: short beside loading, and nothing to the server. */
const ASK_EVERY_MS = 200;
/** One that accepts a connection and then says nothing is asked anew; a model's answer has all the time there is. */
const READY_TIMEOUT_MS = 10_000;
const MAX_ERROR_CHARS = 2_000;

export interface CheckOptions extends AskOptions {
  /** Says why nothing is to be expected any more, as when the workload has failed for good; null while there is hope. */
  readonly hopeless: () => string | null;
  readonly signal: AbortSignal;
}

/**
 * Looks whether the workload serves: waits until its server is ready, then has it answer once. Takes as long as the
 * check allows and no longer.
 * @returns the outcome, also when it does not serve
 * @throws {DumontError} ABORTED by the signal
 */
export async function runCheck(check: WorkloadCheck, options: CheckOptions): Promise<CheckReport> {
  const { clock, signal } = options;
  const startMs = clock.monotonicMs();
  using deadline = new Deadline(clock, check.timeoutMs, signal);
  const within = { ...options, deadline, timeoutMs: check.timeoutMs };
  const server = serverOf(check, options);
  const ready = await ask((asking) => bounded(server, clock, asking), within);
  const readyMs = ready.kind === 'good' ? clock.monotonicMs() - startMs : null;
  const done = ready.kind === 'good' && check.kind !== 'http' ? await ask((s) => server.generate(s), within) : ready;
  const generated: Generated | null = done.kind === 'good' ? done.value : null;
  return {
    kind: check.kind,
    model: check.kind === 'http' ? null : check.model,
    ok: done.kind === 'good',
    readyMs,
    firstTokenMs: generated?.firstTokenMs ?? null,
    tokens: generated?.tokens ?? null,
    totalMs: clock.monotonicMs() - startMs,
    error: done.kind === 'good' ? null : done.why.slice(0, MAX_ERROR_CHARS),
  };
}

function serverOf(check: WorkloadCheck, options: AskOptions): ModelServer {
  switch (check.kind) {
    case 'ollama':
      return ollamaServer(check, options);
    case 'vllm':
      return vllmServer(check, options);
    case 'http':
      return httpServer(check, options);
    default:
      return assertNever(check);
  }
}

/** A server of anything: ready is all it can be. */
function httpServer(
  { port, path, expectStatus }: Extract<WorkloadCheck, { readonly kind: 'http' }>,
  { host }: AskOptions,
): ModelServer {
  return {
    async ready(signal) {
      const answer = await askServer({ host, port, path, signal });
      answer.destroy();
      if (answer.statusCode === expectStatus) return { kind: 'good', value: null };
      return { kind: 'not-yet', why: `${path} answers ${answer.statusCode}, not ${expectStatus}` };
    },
    generate: () => Promise.resolve({ kind: 'never', why: 'it generates nothing' }),
  };
}

async function bounded(server: ModelServer, clock: Clock, signal: AbortSignal): Promise<Answer<null>> {
  using deadline = new Deadline(clock, READY_TIMEOUT_MS, signal);
  return await server.ready(deadline.signal);
}

/** Asks until the answer is final or the time is up. */
async function ask<Good>(
  question: (signal: AbortSignal) => Promise<Answer<Good>>,
  { clock, hopeless, signal, deadline, timeoutMs }: CheckOptions & { readonly deadline: Deadline; timeoutMs: number },
): Promise<Exclude<Answer<Good>, { readonly kind: 'not-yet' }>> {
  let why = 'nothing answered';
  while (!deadline.expired) {
    const answer = await answerOf(() => question(deadline.signal));
    if (signal.aborted) throw new DumontError('ABORTED', 'the check was stopped', { cause: signal.reason });
    if (answer.kind !== 'not-yet') return answer;
    if (deadline.expired) break;
    why = answer.why;
    const end = hopeless();
    if (end !== null) return { kind: 'never', why: `${end} (${why})` };
    await clock.sleep(ASK_EVERY_MS, deadline.signal).catch(() => {});
  }
  return { kind: 'never', why: `not within ${timeoutMs} ms: ${why}` };
}

async function answerOf<Good>(question: () => Promise<Answer<Good>>): Promise<Answer<Good>> {
  try {
    return await question();
  } catch (error) {
    if (isDumontError(error, 'UNAVAILABLE')) return { kind: 'not-yet', why: error.message };
    // More than any answer of such a server.
    if (isDumontError(error, 'LIMIT')) return { kind: 'never', why: error.message };
    throw error;
  }
}
