import type { WorkloadCheck } from '@dumont/shared/model/workload-check.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import { askServer, readText } from './ask-server.ts';
import { excerpt, MAX_TOKENS, type Answer, type AskOptions, type Generated, type ModelServer } from './model-server.ts';

const tagsSchema = z.object({ models: z.array(z.object({ name: z.string() })).max(10_000) });

/** One line of a streamed answer; the last one has `done` and the count. */
const lineSchema = z.object({
  response: z.string().optional(),
  /** Of models that think before they answer. */
  thinking: z.string().optional(),
  done: z.boolean().optional(),
  eval_count: z.int().min(0).optional(),
  error: z.string().optional(),
});

/** A token and its envelope take some hundred bytes. */
const MAX_LINE_CHARS = 1_048_576;

/** Speaks Ollama's API (github.com/ollama/ollama, docs/api.md). It answers at once and loads a model when first asked. */
export function ollamaServer(
  { port, model, prompt }: Extract<WorkloadCheck, { readonly kind: 'ollama' }>,
  { host, clock }: AskOptions,
): ModelServer {
  return {
    async ready(signal) {
      const answer = await askServer({ host, port, path: '/api/tags', signal });
      const text = await readText(answer);
      if (answer.statusCode !== 200) return { kind: 'not-yet', why: `/api/tags answers ${answer.statusCode}` };
      const tags = tagsSchema.safeParse(tryParseJson(text));
      if (!tags.success) return { kind: 'never', why: `this is not Ollama: ${excerpt(text)}` };
      const names = tags.data.models.map(({ name }) => name);
      if (names.includes(withTag(model))) return { kind: 'good', value: null };
      // The command may be about to pull it.
      return { kind: 'not-yet', why: `Ollama has no model ${model}, only: ${names.slice(0, 20).join(', ') || 'none'}` };
    },
    async generate(signal) {
      const startMs = clock.monotonicMs();
      const body = { model, prompt, stream: true, options: { num_predict: MAX_TOKENS } };
      const answer = await askServer({ host, port, path: '/api/generate', body, signal });
      const status = answer.statusCode ?? 0;
      if (status !== 200) {
        const why = `/api/generate answers ${status}: ${errorOf(await readText(answer))}`;
        // 503: its queue is full.
        return { kind: status === 503 || status === 429 ? 'not-yet' : 'never', why };
      }
      return readAnswer(answer, () => clock.monotonicMs() - startMs);
    },
  };
}

async function readAnswer(chunks: AsyncIterable<Buffer>, elapsedMs: () => number): Promise<Answer<Generated>> {
  let firstTokenMs: number | null = null;
  let count = 0;
  for await (const line of linesOf(chunks)) {
    const parsed = lineSchema.safeParse(tryParseJson(line));
    if (!parsed.success) return { kind: 'never', why: `/api/generate says what Ollama does not: ${excerpt(line)}` };
    const { response, thinking, done, eval_count: evalCount, error } = parsed.data;
    if (error !== undefined) return { kind: 'never', why: excerpt(error) };
    if ((response ?? '') !== '' || (thinking ?? '') !== '') {
      firstTokenMs ??= elapsedMs();
      count += 1;
    }
    if (done !== true) continue;
    const tokens = evalCount ?? count;
    if (tokens === 0) return { kind: 'never', why: 'the model generated nothing' };
    // The first token may have ended it, without a text.
    return { kind: 'good', value: { firstTokenMs: firstTokenMs ?? elapsedMs(), tokens } };
  }
  return { kind: 'not-yet', why: 'the answer broke off' };
}

/** Newline-delimited JSON. @throws {DumontError} LIMIT, UNAVAILABLE when the connection breaks */
async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let pending = '';
  try {
    for await (const chunk of chunks) {
      pending += decoder.decode(chunk, { stream: true });
      const lines = pending.split('\n');
      pending = lines.pop() ?? '';
      if (pending.length > MAX_LINE_CHARS) throw new DumontError('LIMIT', 'a line of the answer is above 1 MiB');
      yield* lines.filter((line) => line.trim() !== '');
    }
  } catch (error) {
    throw toDumontError(error, 'UNAVAILABLE', 'the answer broke off');
  }
  if (pending.trim() !== '') yield pending;
}

/** Names without a tag mean `latest`; a name may hold a registry with a port. */
function withTag(model: string): string {
  return model.slice(model.lastIndexOf('/') + 1).includes(':') ? model : `${model}:latest`;
}

function errorOf(text: string): string {
  const parsed = z.object({ error: z.string() }).safeParse(tryParseJson(text));
  return excerpt(parsed.success ? parsed.data.error : text);
}
