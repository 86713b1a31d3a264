import { request as httpRequest } from 'node:http';
import type { WorkspaceId } from '@dumont/shared/model/ids.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { dial } from './dial.ts';
import type { GatewayLimits } from './gateway-limits.ts';
import type { Routes, Target } from './routes.ts';

/** Quick at first, when the answer is what a user waits for; seldom later, when somebody has to mend something. */
const FIRST_GAP_MS = 20;
const GROWTH = 1.25;
const MAX_GAP_MS = 1_000;

/**
 * Asks the workspace's machine, as a user would through the gateway, until it answers: by HTTP where the workspace has a
 * port for it, else by SSH's greeting.
 * @returns true once it answered; false when the signal aborted or the time was over
 */
export async function awaitFirstAnswer(
  workspaceId: WorkspaceId,
  service: 'ssh' | 'http',
  how: { readonly routes: Routes; readonly clock: Clock; readonly limits: GatewayLimits; readonly signal: AbortSignal },
): Promise<boolean> {
  const { routes, clock, limits, signal } = how;
  const deadlineMs = clock.monotonicMs() + limits.firstAnswerMs;
  for (let gapMs = FIRST_GAP_MS; clock.monotonicMs() < deadlineMs; gapMs = Math.min(gapMs * GROWTH, MAX_GAP_MS)) {
    if (signal.aborted) return false;
    const target = await routes.target(workspaceId, service);
    if (target !== null && (await (service === 'http' ? answersHttp : greets)(target, how))) return true;
    await clock.sleep(gapMs, signal).catch(ignore);
  }
  return false;
}

type AskOptions = { readonly clock: Clock; readonly limits: GatewayLimits; readonly signal: AbortSignal };

/** Any answer will do: what the workload says of its own path is its business. */
function answersHttp({ address }: Target, { clock, limits, signal }: AskOptions): Promise<boolean> {
  return new Promise((resolve) => {
    const headers = { Host: 'workspace', 'User-Agent': 'dumont-gateway' };
    const request = httpRequest({ ...address, method: 'HEAD', path: '/', headers, agent: false });
    const cancel = clock.after(limits.connectTimeoutMs, () => request.destroy());
    const onAbort = () => request.destroy();
    signal.addEventListener('abort', onAbort, { once: true });
    const finish = (answered: boolean) => {
      cancel();
      signal.removeEventListener('abort', onAbort);
      request.destroy();
      resolve(answered);
    };
    request.once('response', () => finish(true));
    request.on('error', () => finish(false));
    request.once('close', () => finish(false));
    request.end();
  });
}

async function greets({ address }: Target, { clock, limits, signal }: AskOptions): Promise<boolean> {
  const { connectTimeoutMs, greetingMs } = limits;
  const dialled = await dial(address, { clock, connectTimeoutMs, greetingMs, signal });
  dialled?.socket.destroy();
  return dialled?.greeted ?? false;
}

function ignore(): void {}
