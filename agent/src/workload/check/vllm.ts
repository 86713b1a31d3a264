import { readServerSentEvents } from '@dumont/shared/api/server-sent-events.ts';
import type { WorkloadCheck } from '@dumont/shared/model/workload-check.ts';
import { toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import { askServer, readText } from './ask-server.ts';
import { excerpt, MAX_TOKENS, type Answer, type AskOptions, type Generated, type ModelServer } from './model-server.ts';

const modelsSchema = z.object({ data: z.array(z.object({ id: z.string() })).max(10_000) });

/** One event of a streamed completion; the last one but `[DONE]` has the usage and no choice. */
const chunkSchema = z.object({
  choices: z.array(z.object({ text: z.string() })),
  usage: z.object({ completion_tokens: z.int().min(0) }).nullish(),
});

/** Versions differ in whether the error is wrapped. */
const errorSchema = z.union([
  z.object({ error: z.object({ message: z.string() }) }).transform(({ error }) => error.message),
  z.object({ object: z.literal('error'), message: z.string() }).transform(({ message }) => message),
]);

/** Speaks OpenAI's completions API as vLLM serves it. It listens once its model is loaded, and refuses connections before. */
export function vllmServer(
  { port, model, prompt }: Extract<WorkloadCheck, { readonly kind: 'vllm' }>,
  { host, clock, apiKey }: AskOptions,
): ModelServer {
  return {
    async ready(signal) {
      const answer = await askServer({ host, port, path: '/v1/models', bearer: apiKey, signal });
      const text = await readText(answer);
      const status = answer.statusCode ?? 0;
      if (status === 401 || status === 403)
        return { kind: 'never', why: `/v1/models answers ${status}: wrong API key` };
      if (status !== 200) return { kind: 'not-yet', why: `/v1/models answers ${status}` };
      const models = modelsSchema.safeParse(tryParseJson(text));
      if (!models.success) return { kind: 'never', why: `this is no server of OpenAI's API: ${excerpt(text)}` };
      const ids = models.data.data.map(({ id }) => id);
      if (ids.includes(model)) return { kind: 'good', value: null };
      return { kind: 'never', why: `the server serves ${ids.slice(0, 20).join(', ') || 'nothing'}, not ${model}` };
    },
    async generate(signal) {
      const startMs = clock.monotonicMs();
      const body = {
        model,
        prompt,
        max_tokens: MAX_TOKENS,
        temperature: 0,
        stream: true,
        stream_options: { include_usage: true },
      };
      const answer = await askServer({ host, port, path: '/v1/completions', body, bearer: apiKey, signal });
      const status = answer.statusCode ?? 0;
      if (status !== 200) {
        const why = `/v1/completions answers ${status}: ${errorOf(await readText(answer))}`;
        return { kind: status === 503 || status === 429 ? 'not-yet' : 'never', why };
      }
      return readCompletion(answer, () => clock.monotonicMs() - startMs);
    },
  };
}

async function readCompletion(chunks: AsyncIterable<Uint8Array>, elapsedMs: () => number): Promise<Answer<Generated>> {
  let firstTokenMs: number | null = null;
  let count = 0;
  let told: number | null = null;
  try {
    for await (const { data } of readServerSentEvents(chunks)) {
      if (data === '') continue;
      if (data === '[DONE]') {
        const tokens = told ?? count;
        if (firstTokenMs === null || tokens === 0) return { kind: 'never', why: 'the model generated nothing' };
        return { kind: 'good', value: { firstTokenMs, tokens } };
      }
      const value = tryParseJson(data);
      const chunk = chunkSchema.safeParse(value);
      // An error in the middle of a stream comes in place of a chunk.
      if (!chunk.success) return { kind: 'never', why: errorOf(data) };
      told = chunk.data.usage?.completion_tokens ?? told;
      if (chunk.data.choices.length === 0) continue;
      // Also without a text: the first token may be the one that ends it.
      firstTokenMs ??= elapsedMs();
      count += 1;
    }
  } catch (error) {
    throw toDumontError(error, 'UNAVAILABLE', 'the answer broke off');
  }
  return { kind: 'not-yet', why: 'the answer broke off' };
}

function errorOf(text: string): string {
  const parsed = errorSchema.safeParse(tryParseJson(text));
  return excerpt(parsed.success ? parsed.data : text);
}
