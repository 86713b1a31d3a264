import { createServer } from 'node:http';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { runCheck, type CheckOptions } from '@dumont/agent/workload/check/run-check.ts';
import { workloadCheckSchema, type WorkloadCheck } from '@dumont/shared/model/workload-check.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { describe, expect, test } from 'vitest';
import { OllamaSimulator } from '../../../../simulators/ollama.ts';
import { VllmSimulator } from '../../../../simulators/vllm.ts';
import { eventually } from '../../../../world/eventually.ts';

const never = new AbortController().signal;
const check = (input: object) => workloadCheckSchema.parse({ timeoutMs: 10_000, ...input });
const run = (wanted: WorkloadCheck, options: Partial<CheckOptions> = {}) =>
  runCheck(wanted, { host: '127.0.0.1', clock: systemClock, hopeless: () => null, signal: never, ...options });

/** A port on which nothing listens. */
async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

describe('Ollama', () => {
  const ask = (port: number, more: object = {}) => check({ kind: 'ollama', port, model: 'llama3.2', ...more });

  test('generates: the time to the first token and the number of tokens are told', async () => {
    await using server = await OllamaSimulator.start();
    const report = await run(ask(server.port, { prompt: 'Count.' }));
    expect(report).toMatchObject({ kind: 'ollama', model: 'llama3.2', ok: true, tokens: 7, error: null });
    expect(report.firstTokenMs).toBeGreaterThan(0);
    expect(report.totalMs).toBeGreaterThanOrEqual(report.firstTokenMs ?? Infinity);
    expect(server.requests).toMatchObject([{ model: 'llama3.2', prompt: 'Count.', stream: true }]);
  });

  test('is waited for while it loads the model, which counts into the first token', async () => {
    await using server = await OllamaSimulator.start();
    server.behaviour.loadMs = 400;
    const report = await run(ask(server.port));
    expect(report).toMatchObject({ ok: true });
    expect(report.firstTokenMs).toBeGreaterThanOrEqual(390);
    expect(report.readyMs).toBeLessThan(report.firstTokenMs ?? 0);
  });

  test('is waited for until it is started, and until it has the model', async () => {
    const port = await freePort();
    const running = run(ask(port));
    await systemClock.sleep(250);
    await using server = await OllamaSimulator.start(port);
    server.behaviour.models = [];
    await systemClock.sleep(250);
    server.behaviour.models = ['llama3.2:latest'];
    const report = await running;
    expect(report).toMatchObject({ ok: true });
    expect(report.readyMs).toBeGreaterThan(400);
  });

  test('without the model is reported with the models it has', async () => {
    await using server = await OllamaSimulator.start();
    const report = await run(ask(server.port, { model: 'qwen3:8b', timeoutMs: 400 }));
    expect(report).toMatchObject({ ok: false, readyMs: null, firstTokenMs: null, tokens: null });
    expect(report.error).toContain('Ollama has no model qwen3:8b, only: llama3.2:latest');
  });

  test('is asked again while it is busy', async () => {
    await using server = await OllamaSimulator.start();
    server.behaviour.refusal = { status: 503, error: 'server busy, please try again.' };
    const running = run(ask(server.port));
    await eventually('it was asked', () => server.requests.length > 0);
    server.behaviour.refusal = null;
    expect(await running).toMatchObject({ ok: true });
  });

  test('that cannot load the model, or fails half-way, is reported in its own words', async () => {
    await using server = await OllamaSimulator.start();
    server.behaviour.refusal = { status: 500, error: 'llama runner process has terminated: cudaMalloc failed' };
    expect((await run(ask(server.port))).error).toBe(
      '/api/generate answers 500: llama runner process has terminated: cudaMalloc failed',
    );
    server.behaviour.refusal = null;
    server.behaviour.breakAfter = { tokens: 2, error: 'an error was encountered while running the model' };
    expect(await run(ask(server.port))).toMatchObject({
      ok: false,
      error: 'an error was encountered while running the model',
    });
  });

  test('that is killed while it answers is asked again when it is back', async () => {
    await using server = await OllamaSimulator.start();
    server.behaviour.dropAfter = 3;
    const running = run(ask(server.port));
    await eventually('it was asked', () => server.requests.length > 0);
    server.behaviour.dropAfter = null;
    expect(await running).toMatchObject({ ok: true, tokens: 7 });
  });
});

describe('vLLM', () => {
  const model = 'Qwen/Qwen2.5-0.5B-Instruct';
  const ask = (port: number, more: object = {}) => check({ kind: 'vllm', port, model, ...more });

  test('refuses connections while it loads the model, and generates once it listens', async () => {
    const port = await freePort();
    const running = run(ask(port));
    await systemClock.sleep(450);
    await using server = await VllmSimulator.start(port);
    const report = await running;
    expect(report).toMatchObject({ kind: 'vllm', ok: true, tokens: 7, error: null });
    expect(report.readyMs).toBeGreaterThan(400);
    expect(report.firstTokenMs).toBeLessThan(report.readyMs ?? 0);
    expect(server.requests).toMatchObject([{ model, stream: true, stream_options: { include_usage: true } }]);
  });

  test('that serves another model is reported at once', async () => {
    await using server = await VllmSimulator.start();
    const report = await run(ask(server.port, { model: 'meta-llama/Llama-3.1-8B' }));
    expect(report.error).toBe(`the server serves ${model}, not meta-llama/Llama-3.1-8B`);
  });

  test('whose engine dies half-way is reported, and one whose first token ends the text has answered', async () => {
    await using server = await VllmSimulator.start();
    server.behaviour.breakAfter = { tokens: 1, message: 'EngineCore encountered an issue.' };
    expect(await run(ask(server.port))).toMatchObject({ ok: false, error: 'EngineCore encountered an issue.' });
    server.behaviour.breakAfter = null;
    server.behaviour.words = [''];
    expect(await run(ask(server.port))).toMatchObject({ ok: true, tokens: 1 });
  });

  test('is asked with its API key where there is one', async () => {
    await using server = await VllmSimulator.start();
    server.behaviour.apiKey = 'secret';
    expect((await run(ask(server.port))).error).toContain('401');
    expect(await run(ask(server.port), { apiKey: 'secret' })).toMatchObject({ ok: true });
  });
});

describe('HTTP', () => {
  test('is awaited until the status is the one expected', async () => {
    let status = 503;
    const server = createServer((_request, response) => response.writeHead(status).end('…')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    try {
      const wanted = check({ kind: 'http', port, path: '/health', expectStatus: 204, timeoutMs: 300 });
      expect((await run(wanted)).error).toBe('not within 300 ms: /health answers 503, not 204');
      status = 204;
      expect(await run(wanted)).toMatchObject({ ok: true, model: null, firstTokenMs: null, tokens: null });
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });

  test('that nobody serves is given up when the workload has failed for good, and at the latest in time', async () => {
    const port = await freePort();
    const wanted = check({ kind: 'http', port });
    const report = await run(wanted, { hopeless: () => 'the workload failed meanwhile' });
    expect(report.error).toMatch(/the workload failed meanwhile.*ECONNREFUSED/);
    expect((await run({ ...wanted, timeoutMs: 300 })).error).toMatch(/^not within 300 ms:.*ECONNREFUSED/);
  });

  test('that accepts and says nothing does not outlast the check, and an abort ends it at once', async () => {
    const server = createTcpServer(() => {}).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const wanted = check({ kind: 'http', port: (server.address() as AddressInfo).port });
    expect(await run({ ...wanted, timeoutMs: 200 })).toMatchObject({ ok: false });
    const stop = new AbortController();
    const running = run(wanted, { signal: stop.signal });
    stop.abort();
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    server.close();
  });
});
