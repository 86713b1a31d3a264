import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { closeServer, listenOnLoopback, portOf } from './loopback-server.ts';

const PREEMPTED_PATH = '/computeMetadata/v1/instance/preempted';

/**
 * Google's metadata server, as far as preemption goes: plain text with an ETag, refused without the header
 * `Metadata-Flavor: Google`; with `wait_for_change` a request is held until the value differs from `last_etag`, or for
 * `timeout_sec`. Source: cloud.google.com/compute/docs/metadata/querying-metadata.
 */
export class GcpMetadataSimulator implements AsyncDisposable {
  /** Query strings of the requests, in order. */
  readonly queries: string[] = [];
  /** Answers 503 while set, as during maintenance of the host. */
  isBroken = false;
  readonly #http: Server;
  readonly #held = new Set<() => void>();
  #isPreempted = false;

  private constructor(http: Server) {
    this.#http = http;
  }

  static async start(): Promise<GcpMetadataSimulator> {
    const http = createServer();
    const simulator = new GcpMetadataSimulator(http);
    http.on('request', (request, response) => simulator.#serve(request, response));
    await listenOnLoopback(http);
    return simulator;
  }

  /** For GCE_METADATA_HOST. */
  get host(): string {
    return `127.0.0.1:${portOf(this.#http)}`;
  }

  /** Requests held just now. */
  get heldCount(): number {
    return this.#held.size;
  }

  /** Google takes the machine back. */
  preempt(): void {
    this.#isPreempted = true;
    for (const answer of this.#held) answer();
  }

  /** Ends every connection without a word. */
  drop(): void {
    this.#http.closeAllConnections();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeServer(this.#http);
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://metadata');
    if (request.headers['metadata-flavor'] !== 'Google') {
      response.writeHead(403, { 'Content-Type': 'text/html' }).end('Missing required header: Metadata-Flavor');
      return;
    }
    this.queries.push(url.search);
    if (this.isBroken) return void response.writeHead(503).end();
    if (url.pathname !== PREEMPTED_PATH) return void response.writeHead(404).end();
    const answer = () => {
      this.#held.delete(answer);
      const text = this.#isPreempted ? 'TRUE' : 'FALSE';
      response.writeHead(200, { 'Content-Type': 'application/text', 'Metadata-Flavor': 'Google', ETag: this.#etag() });
      response.end(text);
    };
    const isHeld = url.searchParams.get('wait_for_change') === 'true';
    if (!isHeld || (url.searchParams.get('last_etag') ?? '0') !== this.#etag()) return answer();
    this.#held.add(answer);
    response.once('close', () => this.#held.delete(answer));
  }

  #etag(): string {
    return this.#isPreempted ? '5d1a3f0b9c2e4a77' : '411261ca6c9e4a3d';
  }
}
