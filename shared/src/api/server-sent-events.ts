import { DumontError } from '../util/errors.ts';

/** One dispatched message of an event stream. */
export interface ServerSentEvent {
  /** The stream's last id so far; '' before the first. */
  readonly id: string;
  /** `message` unless the stream named it. */
  readonly event: string;
  /** '' for a message that only moves the id, which a browser would not dispatch. */
  readonly data: string;
}

/** An event of ours is a few hundred bytes; a line a thousand times that is not an event stream. */
const MAX_LINE_CHARS = 1_048_576;

/**
 * Reads an event stream as the HTML standard's "server-sent events" defines it: LF, CRLF and CR line ends, comments,
 * several data lines, any split into chunks. One addition: an id without data is reported too (with empty data), so
 * that a client knows from where to resume before the first event came.
 * @throws {DumontError} LIMIT for a line above 1 MiB
 */
export async function* readServerSentEvents(chunks: AsyncIterable<Uint8Array>): AsyncIterable<ServerSentEvent> {
  const message = new MessageBuilder();
  for await (const line of readLines(chunks)) {
    if (line === '') {
      const event = message.finish();
      if (event !== undefined) yield event;
    } else {
      message.add(line);
    }
  }
}

class MessageBuilder {
  #id = '';
  #idChanged = false;
  #event = '';
  #data: string[] = [];

  add(line: string): void {
    const colon = line.indexOf(':');
    if (colon === 0) return;
    const field = colon === -1 ? line : line.slice(0, colon);
    const raw = colon === -1 ? '' : line.slice(colon + 1);
    const value = raw.startsWith(' ') ? raw.slice(1) : raw;
    if (field === 'data') this.#data.push(value);
    if (field === 'event') this.#event = value;
    if (field === 'id' && !value.includes('\0')) {
      this.#idChanged = value !== this.#id;
      this.#id = value;
    }
  }

  /** The message, undefined when nothing of it is worth telling. */
  finish(): ServerSentEvent | undefined {
    const event = { id: this.#id, event: this.#event === '' ? 'message' : this.#event, data: this.#data.join('\n') };
    const worthTelling = this.#data.length > 0 || this.#idChanged;
    this.#event = '';
    this.#data = [];
    this.#idChanged = false;
    return worthTelling ? event : undefined;
  }
}

/** Lines without their ends; a last line without an end is dropped, as the standard wants it. */
async function* readLines(chunks: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  // The decoder removes a byte-order mark and holds back half a character.
  const decoder = new TextDecoder();
  let pending = '';
  for await (const chunk of chunks) {
    pending += decoder.decode(chunk, { stream: true });
    // A CR at the very end may be half of a CRLF: it waits for the next chunk.
    const complete = pending.endsWith('\r') ? pending.slice(0, -1) : pending;
    const lines = complete.split(/\r\n|\n|\r/);
    const rest = lines.pop() ?? '';
    pending = rest + pending.slice(complete.length);
    if (pending.length > MAX_LINE_CHARS) {
      throw new DumontError('LIMIT', `an event stream line is longer than ${MAX_LINE_CHARS} characters`);
    }
    yield* lines;
  }
}
