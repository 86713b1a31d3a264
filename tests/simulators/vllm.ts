import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeServer, listenOnLoopback, portOf } from './loopback-server.ts';

interface VllmBehaviour {
  models: string[];
  /** Key that every request must carry; null: none. */
  apiKey: string | null;
  tokenMs: number;
  /** What is generated; an empty text is the end-of-text token. */
  words: string[];
  /** Error in place of the head of an answer, with its status. */
  refusal: { readonly status: number; readonly message: string } | null;
  /** Error event after so many tokens; the status is 200 by then. */
  breakAfter: { readonly tokens: number; readonly message: string } | null;
}

interface CompletionRequest {
  readonly model: string;
  readonly prompt: string;
  readonly max_tokens: number;
  readonly stream?: boolean;
  readonly stream_options?: { readonly include_usage?: boolean };
}

/**
 * vLLM's server of OpenAI's API, once its model is loaded: before that the real one refuses connections, so start this
 * one later. `/health`, `/v1/models`, `/v1/completions` as server-sent events.
 */
export class VllmSimulator implements AsyncDisposable {
  readonly behaviour: VllmBehaviour = {
    models: ['Qwen/Qwen2.5-0.5B-Instruct'],
    apiKey: null,
    tokenMs: 1,
    words: [' Hello', '!', ' How', ' can', ' I', ' help', '?'],
    refusal: null,
    breakAfter: null,
  };
  readonly requests: CompletionRequest[] = [];
  readonly #http: Server;

  private constructor(http: Server) {
    this.#http = http;
  }

  static async start(port = 0): Promise<VllmSimulator> {
    const http = createServer();
    const simulator = new VllmSimulator(http);
    http.on('request', (request, response) => void simulator.#serve(request, response));
    await listenOnLoopback(http, port);
    return simulator;
  }

  get port(): number {
    return portOf(this.#http);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeServer(this.#http);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { apiKey, models } = this.behaviour;
    const route = `${request.method} ${request.url}`;
    if (route === 'GET /health') return void response.end();
    if (apiKey !== null && request.headers.authorization !== `Bearer ${apiKey}`) {
      response.writeHead(401, { 'Content-Type': 'application/json' }).end('{"error":"Unauthorized"}');
    } else if (route === 'GET /v1/models') {
      const data = models.map((id) => ({
        id,
        object: 'model',
        created: 1_763_865_600,
        owned_by: 'vllm',
        root: id,
        parent: null,
        max_model_len: 32_768,
      }));
      json(response, 200, { object: 'list', data });
    } else if (route === 'POST /v1/completions') {
      await this.#complete(JSON.parse(await text(request)) as CompletionRequest, response);
    } else {
      json(response, 404, { detail: 'Not Found' });
    }
  }

  async #complete(request: CompletionRequest, response: ServerResponse): Promise<void> {
    this.requests.push(request);
    const { models, tokenMs, words, refusal, breakAfter } = this.behaviour;
    if (refusal !== null) return json(response, refusal.status, errorOf(refusal.message, refusal.status));
    if (!models.includes(request.model)) {
      return json(response, 404, errorOf(`The model \`${request.model}\` does not exist.`, 404));
    }
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
    const event = (value: object) => response.write(`data: ${JSON.stringify(value)}\n\n`);
    const head = { id: 'cmpl-6f1d', object: 'text_completion', created: 1_763_865_600, model: request.model };
    const generated = words.slice(0, request.max_tokens);
    for (const [index, word] of generated.entries()) {
      await sleep(tokenMs);
      if (breakAfter?.tokens === index) {
        event(errorOf(breakAfter.message, 500));
        response.end('data: [DONE]\n\n');
        return;
      }
      const isLast = index === generated.length - 1;
      const reason = isLast ? (generated.length < words.length ? 'length' : 'stop') : null;
      event({
        ...head,
        choices: [{ index: 0, text: word, logprobs: null, finish_reason: reason, stop_reason: null }],
        usage: null,
      });
    }
    if (request.stream_options?.include_usage === true) {
      const completion = generated.length;
      const usage = { prompt_tokens: 4, total_tokens: 4 + completion, completion_tokens: completion };
      event({ ...head, choices: [], usage });
    }
    response.end('data: [DONE]\n\n');
  }
}

function errorOf(message: string, code: number): object {
  return { error: { message, type: 'InternalServerError', param: null, code } };
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}
