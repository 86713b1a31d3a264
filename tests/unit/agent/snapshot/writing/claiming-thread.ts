import { createHash } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@dumont/shared/util/assert.ts';
import { SharedClaims } from '@dumont/agent/snapshot/writing/chunk-claims.ts';

/** Claims the hashes of 0 to count, and tells how many it got. */
const { buffer, count } = workerData as { readonly buffer: SharedArrayBuffer; readonly count: number };
const claims = new SharedClaims(buffer);
let got = 0;
for (let seed = 0; seed < count; seed += 1) {
  if (claims.claim(createHash('sha256').update(String(seed)).digest('hex'))) got += 1;
}
const port = must(parentPort, 'it is a worker');
port.postMessage(got);
