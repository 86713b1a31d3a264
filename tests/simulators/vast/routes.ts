import type { Account } from './account.ts';
import type { Contract } from './contract.ts';
import { instancePage, QueryError } from './instance-page.ts';
import type { Market } from './market.ts';
import { BadSearch, search } from './search.ts';

/** A request as routes see it. */
export interface ApiCall {
  readonly method: string;
  /** Without a slash at the end. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
  readonly origin: string;
}

export interface Reply {
  readonly status: number;
  readonly body: unknown;
  /** False: the work was done, and the connection breaks. */
  readonly isHeard?: boolean;
}

export interface World {
  readonly market: Market;
  readonly account: Account;
  /** As instances show it: with a newline at its end, as real ones have now and then. */
  readonly publicAddress: string;
  readonly logs: Map<string, string>;
}

type Handler = (world: World, call: ApiCall, ids: readonly number[]) => Reply | Promise<Reply>;

interface Route {
  readonly method: string;
  readonly path: RegExp;
  /** Calls of one class share a limit; undefined: none is documented. */
  readonly limit?: string;
  readonly isOpen?: boolean;
  readonly handle: Handler;
}

const V0 = '/api/v0';

const ROUTES: readonly Route[] = [
  route('POST', '/bundles', { limit: 'search', isOpen: true }, (world, { body }) => searched(world, body)),
  route('GET', '/bundles', { limit: 'search', isOpen: true }, (world, { query }) => searchedByQuery(world, query)),
  route('PUT', '/search/asks', { limit: 'search', isOpen: true }, (world, { body }) =>
    searched(world, (body['q'] ?? {}) as Record<string, unknown>),
  ),
  route('GET', '/search/asks', { limit: 'search', isOpen: true }, (world, { query }) => searchedByQuery(world, query)),
  route('GET', '/gpu_names/unique', { isOpen: true }, gpuNames),
  route('PUT', '/asks/(\\d+)', { limit: 'create' }, (world, { body }, [id = 0]) => world.account.order(id, body)),
  { method: 'GET', path: /^\/api\/v1\/instances$/, limit: 'list', handle: page },
  route('GET', '/instances', { limit: 'list' }, (world) => {
    const instances = world.account.visible.map((contract) => contract.row(world));
    return done({ instances_found: instances.length, instances });
  }),
  route('GET', '/instances/filters', {}, () => done({ filters: [] })),
  route('GET', '/instances/(\\d+)', { limit: 'show' }, (world, _call, [id = 0]) => {
    const contract = world.account.visible.find((each) => each.id === id);
    return done({ instances: contract?.row(world) ?? null });
  }),
  route('PUT', '/instances/(\\d+)', { limit: 'manage' }, onContract(change)),
  route('DELETE', '/instances/(\\d+)', { limit: 'destroy' }, onContract(destroy)),
  route('PUT', '/instances/reboot/(\\d+)', { limit: 'manage' }, onContract(restart)),
  route('PUT', '/instances/bid_price/(\\d+)', { limit: 'bid' }, onContract(bid)),
  route('PUT', '/instances/request_logs/(\\d+)', {}, onContract(logs)),
  route('POST', '/instances/(\\d+)/ssh', { limit: 'ssh-key' }, onContract(attachKey)),
  route(
    'GET',
    '/instances/(\\d+)/ssh',
    {},
    onContract((_world, contract) => {
      const keys = contract.attachedKeys.map((key, index) => ({ id: index + 1, public_key: key }));
      return done({ success: true, ssh_keys: JSON.stringify(keys) });
    }),
  ),
  route('GET', '/ssh', {}, ({ account }) => done(account.sshKeys)),
  route('POST', '/ssh', { limit: 'ssh-key' }, ({ account }, { body }) =>
    typeof body['ssh_key'] === 'string'
      ? done({ success: true, key: account.addKey(body['ssh_key']) })
      : refused(400, 'no_ssh_key', 'No ssh key provided'),
  ),
  route('GET', '/users/current', {}, ({ account }) =>
    done({
      id: 1,
      username: 'simulated',
      email: 'user@example.com',
      balance: 0,
      credit: account.credit,
      can_pay: true,
    }),
  ),
];

/** The route of a call; undefined when the API has none. */
export function findRoute({
  method,
  path,
}: ApiCall): { readonly route: Route; readonly ids: readonly number[] } | undefined {
  for (const route of ROUTES) {
    const match = route.method === method ? route.path.exec(path) : null;
    if (match !== null) return { route, ids: match.slice(1).map(Number) };
  }
  return undefined;
}

/** A refusal in the API's usual form. */
export function refused(status: number, error: string, msg: string): Reply {
  return { status, body: { success: false, error, msg } };
}

function route(method: string, path: string, how: Pick<Route, 'limit' | 'isOpen'>, handle: Handler): Route {
  return { method, path: new RegExp(`^${V0}${path}$`), ...how, handle };
}

function done(body: unknown): Reply {
  return { status: 200, body };
}

function searched({ market }: World, query: Readonly<Record<string, unknown>>): Reply {
  try {
    return done({ offers: search(market, query) });
  } catch (error) {
    if (error instanceof BadSearch) return refused(400, 'invalid_request', error.message);
    throw error;
  }
}

function searchedByQuery(world: World, query: URLSearchParams): Reply {
  try {
    return searched(world, JSON.parse(query.get('q') ?? '{}') as Record<string, unknown>);
  } catch {
    return refused(400, 'invalid_request', 'Invalid json body');
  }
}

function gpuNames({ market }: World): Reply {
  const names = new Set([...market.asks.values()].map(({ seed }) => seed.gpu_name));
  return done({ success: true, gpu_names: [...names] });
}

function page(world: World, { query }: ApiCall): Reply {
  try {
    return done(
      instancePage(
        world.account.visible.map((contract) => contract.row(world)),
        query,
      ),
    );
  } catch (error) {
    if (error instanceof QueryError) return refused(400, 'invalid_args', `Error in query parameters: ${error.message}`);
    throw error;
  }
}

function onContract(work: (world: World, contract: Contract, call: ApiCall) => Reply | Promise<Reply>): Handler {
  return (world, call, [id = 0]) => {
    const contract = world.account.contracts.get(id);
    return contract === undefined
      ? refused(404, 'no_such_instance', `Instance ${id} not found.`)
      : work(world, contract, call);
  };
}

function change(_world: World, contract: Contract, { body }: ApiCall): Reply {
  const { state, label } = body;
  if (typeof label === 'string') {
    contract.label = label;
    return done({ success: true, msg: `label for ${contract.id} set to '${label}'` });
  }
  if (state === 'stopped') {
    contract.stop();
    return done({ success: true, msg: `instance ${contract.id} is stopping` });
  }
  if (state !== 'running') return refused(400, 'invalid_args', 'state must be running or stopped');
  if (contract.start()) return done({ success: true, msg: `instance ${contract.id} is starting` });
  const msg = 'Required resources are currently unavailable, state change queued.';
  return { status: 200, body: { success: false, error: 'resources_unavailable', msg } };
}

async function destroy({ account }: World, contract: Contract): Promise<Reply> {
  await account.destroy(contract);
  return done({ success: true, msg: 'Instance destroyed successfully' });
}

function restart(_world: World, contract: Contract): Reply {
  contract.restart();
  return done({ success: true });
}

function bid(_world: World, contract: Contract, { body }: ApiCall): Reply {
  const { price } = body;
  if (typeof price !== 'number' || price < 0.001) {
    return refused(400, 'invalid_price', 'Please set a bid price >= 0.001.');
  }
  contract.bid = price;
  if (price < contract.ask.minBid) contract.outbid({ resumes: false });
  else if (contract.intended === 'stopped') contract.resume();
  return done({ success: true });
}

async function attachKey(_world: World, contract: Contract, { body }: ApiCall): Promise<Reply> {
  if (typeof body['ssh_key'] !== 'string') return refused(400, 'no_ssh_key', 'No ssh key provided');
  contract.attachedKeys.push(body['ssh_key']);
  await contract.refreshKeys();
  return done({ success: true, msg: 'SSH key attached successfully' });
}

function logs({ logs }: World, contract: Contract, { origin }: ApiCall): Reply {
  logs.set(String(contract.id), `instance ${contract.id}: ${contract.message ?? 'no message'}\n`);
  return done({ success: true, result_url: `${origin}/simulator/logs/${contract.id}`, msg: 'uploading' });
}
