import type { EncodedChunk, ExpectedChunk } from '../snapshot/planes/chunk-coder.ts';

/** Orders to a codec thread, answered one by one in their order. Bytes are transferred, not copied. */
export type CodecOrder =
  | { readonly type: 'encode'; readonly raw: Uint8Array }
  | { readonly type: 'decode'; readonly frame: Uint8Array; readonly expected: ExpectedChunk };

/** `refused` is the message of a CORRUPT error; anything else a thread throws ends it. */
export type CodecAnswer =
  | { readonly type: 'encoded'; readonly chunk: EncodedChunk }
  | { readonly type: 'decoded'; readonly raw: Uint8Array }
  | { readonly type: 'refused'; readonly message: string };
