import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { closeServer, listenOnLoopback, portOf } from './loopback-server.ts';

interface OllamaBehaviour {
  /** Pulled models, with their tags. */
  models: string[];
  /** Requests for a model wait this long while it is loaded; nothing is sent before. */
  loadMs: number;
  /** Pause before each token. */
  tokenMs: number;
  /** Error in place of the head of an answer, with its status. */
  refusal: { readonly status: number; readonly error: string } | null;
  /** Error line after so many tokens; the status is 200 by then. */
  breakAfter: { readonly tokens: number; readonly error: string } | null;
  /** The connection ends without a word after so many tokens, as when the server is killed. */
  dropAfter: number | null;
}

interface GenerateRequest {
  readonly model: string;
  readonly prompt: string;
  readonly stream?: boolean;
  readonly options?: { readonly num_predict?: number };
}

const WORDS = [' Hello', ' there', ',', ' how', ' are', ' you', '?'];

/**
 * Ollama as seen through its API: `/api/tags` at once, `/api/generate` as newline-delimited JSON that begins when the
 * model is loaded. Source: github.com/ollama/ollama, docs/api.md.
 */
export class OllamaSimulator implements AsyncDisposable {
  readonly behaviour: OllamaBehaviour = {
    models: ['llama3.2:latest'],
    loadMs: 0,
    tokenMs: 1,
    refusal: null,
    breakAfter: null,
    dropAfter: null,
  };
  readonly requests: GenerateRequest[] = [];
  readonly #http: Server;

  private constructor(http: Server) {
    this.#http = http;
  }

  static async start(port = 0): Promise<OllamaSimulator> {
    const http = createServer();
    const simulator = new OllamaSimulator(http);
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
    const route = `${request.method} ${request.url}`;
    if (route === 'GET /') {
      response.end('Ollama is running');
    } else if (route === 'GET /api/tags') {
      const models = this.behaviour.models.map((name) => ({
        name,
        model: name,
        modified_at: '2026-11-04T14:56:49.277302595-07:00',
        size: 2_019_393_189,
        digest: 'a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72',
        details: { format: 'gguf', family: 'llama', parameter_size: '3.2B', quantization_level: 'Q4_K_M' },
      }));
      this.#json(response, 200, { models });
    } else if (route === 'POST /api/generate') {
      await this.#generate(JSON.parse(await text(request)) as GenerateRequest, response);
    } else {
      response.writeHead(404, { 'Content-Type': 'text/plain' }).end('404 page not found');
    }
  }

  async #generate(request: GenerateRequest, response: ServerResponse): Promise<void> {
    this.requests.push(request);
    const { models, loadMs, tokenMs, refusal, breakAfter, dropAfter } = this.behaviour;
    if (refusal !== null) return this.#json(response, refusal.status, { error: refusal.error });
    const model = request.model.includes(':') ? request.model : `${request.model}:latest`;
    if (!models.includes(model)) return this.#json(response, 404, { error: `model '${request.model}' not found` });
    await sleep(loadMs);
    response.writeHead(200, { 'Content-Type': 'application/x-ndjson' });
    const line = (fields: object) => {
      const head = { model: request.model, created_at: new Date().toISOString() };
      response.write(`${JSON.stringify({ ...head, ...fields })}\n`);
    };
    const count = Math.min(request.options?.num_predict ?? 128, WORDS.length);
    for (let done = 0; done < count; done += 1) {
      if (dropAfter === done) return void response.destroy();
      if (breakAfter?.tokens === done) {
        response.end(`${JSON.stringify({ error: breakAfter.error })}\n`);
        return;
      }
      await sleep(tokenMs);
      line({ response: WORDS[done], done: false });
    }
    line({
      response: '',
      done: true,
      done_reason: count < WORDS.length ? 'length' : 'stop',
      context: [1, 2, 3],
      total_duration: 174_560_334,
      load_duration: loadMs * 1_000_000,
      prompt_eval_count: 11,
      prompt_eval_duration: 18_000_000,
      eval_count: count,
      eval_duration: 52_479_709,
    });
    response.end();
  }

  #json(response: ServerResponse, status: number, body: object): void {
    response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8' }).end(JSON.stringify(body));
  }
}
