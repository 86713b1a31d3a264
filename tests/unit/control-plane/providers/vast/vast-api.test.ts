import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { VastApi } from '@dumont/control-plane/providers/vast/vast-api.ts';
import { VastListing } from '@dumont/control-plane/providers/vast/vast-listing.ts';
import { seededRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { fastClock } from '../../../../world/fast-clock.ts';

const { signal } = new AbortController();

/** A service that answers what is scripted: for accounts and markets larger than the simulator's. */
async function serve(answer: (url: URL, body: string) => unknown) {
  const urls: URL[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    urls.push(url);
    void request.toArray().then((parts: Buffer[]) => {
      response.end(JSON.stringify(answer(url, Buffer.concat(parts).toString())));
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const baseUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const clock = fastClock(20);
  return {
    urls,
    clock,
    api: new VastApi({ apiKey: 'key', baseUrl, clock, random: seededRandom(1) }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

test('every page of a large account is read', async () => {
  const ids = Array.from({ length: 60 }, (_, index) => index + 1);
  await using service = await serve((url) => {
    const start = Number(url.searchParams.get('after_token') ?? 0);
    const end = start + Number(url.searchParams.get('limit'));
    const next_token = end < ids.length ? String(end) : null;
    return { success: true, instances: ids.slice(start, end).map((id) => ({ id })), next_token };
  });
  expect((await service.api.instances({ signal })).map(({ id }) => id)).toEqual(ids);
  expect(service.urls).toHaveLength(3);
});

test('a list that never ends is an error, not a short list', async () => {
  await using service = await serve(() => ({ instances: [], next_token: 'more' }));
  await expect(service.api.instances({ signal })).rejects.toMatchObject({ code: 'LIMIT' });
});

test('an answer of another shape is an error, not an empty list', async () => {
  await using service = await serve(() => ({ success: true }));
  await expect(service.api.instances({ signal })).rejects.toMatchObject({ code: 'PROVIDER' });
});

test('a market of more than one page is read from the cheapest on, odd rows left out, and kept for a while', async () => {
  const row = (id: number) => ({ id, machine_id: id, gpu_name: 'RTX 4090', num_gpus: 1, disk_space: 100, dph_base: 1 });
  const asks = Array.from({ length: 100 }, (_, index) => {
    const more = { min_bid: 0.001 * (index + 1), storage_cost: 0.1, direct_port_count: 9 };
    return index === 50 ? { id: 'odd' } : { ...row(index + 1), ...more };
  });
  await using service = await serve((_url, text) => {
    const body = JSON.parse(text) as { readonly type: string; readonly min_bid?: { readonly gt: number } };
    expect(body.type).toBe('bid');
    const above = asks.filter((ask) => !('min_bid' in ask) || ask.min_bid > (body.min_bid?.gt ?? 0));
    return { offers: above.slice(0, 64) };
  });
  const listing = new VastListing({ api: service.api, clock: service.clock, diskGb: 20 });
  const offers = await listing.offers({ signal });
  expect(new Set(offers.map(({ offerId }) => offerId)).size).toBe(99);
  expect(offers).toHaveLength(99);
  await listing.offers({ signal });
  expect(service.urls).toHaveLength(2);
});
