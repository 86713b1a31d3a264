/** Close code 1012, "service restart" (IANA registry of RFC 6455): clients are meant to connect again. */
const SERVICE_RESTART = 1012;

/** The unmasked close frame a server sends before it goes away. */
export function serviceRestartFrame(): Uint8Array {
  const reason = Buffer.from('service restart');
  const frame = Buffer.alloc(4 + reason.length);
  frame[0] = 0x88;
  frame[1] = 2 + reason.length;
  frame.writeUInt16BE(SERVICE_RESTART, 2);
  reason.copy(frame, 4);
  return frame;
}

/**
 * Follows the frames of one direction of a WebSocket (RFC 6455, section 5.2) without looking at what they hold, to know
 * where a frame of our own may be put between. Understands masked and unmasked frames of every size.
 */
export class FrameTracker {
  readonly #header = new Uint8Array(14);
  #headerBytes = 0;
  /** Of the present frame, after its header. */
  #payloadLeft = 0;

  /** True when everything seen so far is whole frames. */
  get isBetweenFrames(): boolean {
    return this.#headerBytes === 0 && this.#payloadLeft === 0;
  }

  /** Takes the next bytes of the stream; they are not kept. */
  push(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#payloadLeft > 0) {
        const skipped = Math.min(this.#payloadLeft, bytes.length - at);
        this.#payloadLeft -= skipped;
        at += skipped;
        continue;
      }
      this.#header[this.#headerBytes] = bytes[at] ?? 0;
      this.#headerBytes += 1;
      at += 1;
      if (this.#headerBytes >= 2 && this.#headerBytes === this.#headerLength()) {
        this.#payloadLeft = this.#payloadLength();
        this.#headerBytes = 0;
      }
    }
  }

  #headerLength(): number {
    const second = this.#header[1] ?? 0;
    const size = second & 0x7f;
    return 2 + (size === 126 ? 2 : size === 127 ? 8 : 0) + ((second & 0x80) === 0 ? 0 : 4);
  }

  #payloadLength(): number {
    const size = (this.#header[1] ?? 0) & 0x7f;
    const view = new DataView(this.#header.buffer);
    if (size === 126) return view.getUint16(2);
    // Beyond 2^53 the count is inexact; no such frame ever ends.
    return size === 127 ? Number(view.getBigUint64(2)) : size;
  }
}
