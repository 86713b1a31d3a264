/**
 * Frees memory now: megabytes behind small objects would wait long for a collection. Nothing else may use the buffers
 * any more, whatever part of them is given; Node's pool, which many small ones share, is left alone.
 */
export function releaseBuffers(parts: readonly Uint8Array[]): void {
  for (const { buffer } of parts) {
    const isFree = buffer instanceof ArrayBuffer && !buffer.detached && buffer.byteLength !== Buffer.poolSize;
    if (isFree) buffer.transfer(0);
  }
}
