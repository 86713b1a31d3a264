import { createConnection } from 'node:net';
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startVastSimulator, type VastSimulator } from '../simulators/vast/vast-simulator.ts';
import { eventually } from '../world/eventually.ts';
import { makeTempFolder } from '../world/temp-folder.ts';
import { installVastCli, vastCli, vastCliObstacle } from '../world/vast-cli.ts';

/** The first run on a computer installs the client. */
const INSTALL_MS = 300_000;
/** Each command is a Python process of about a second. */
const WITHIN = { timeout: 240_000 };

const obstacle = vastCliObstacle();
const name = obstacle === undefined ? 'the vendor’s own client' : `the vendor’s own client (left out: ${obstacle})`;

describe.skipIf(obstacle !== undefined)(name, () => {
  const stack = new AsyncDisposableStack();
  let isInstalled = false;
  let simulator: VastSimulator;
  let home: string;

  beforeAll(async () => {
    isInstalled = await installVastCli();
    home = stack.use(await makeTempFolder()).path;
    simulator = stack.use(await startVastSimulator({ speed: 100, limitSpeed: 10, isCalm: true }));
  }, INSTALL_MS);
  afterAll(() => stack.disposeAsync());

  const vast = (...args: string[]) => vastCli({ url: simulator.url, apiKey: simulator.apiKey, home }, args);
  const raw = async (...args: string[]) => JSON.parse(await vast(...args, '--raw')) as unknown;

  test(
    'searches, orders, shows, reaches, stops, starts and destroys a machine of the simulator',
    WITHIN,
    async (context) => {
      if (!isInstalled) context.skip('the package index cannot be reached');
      const found = (await raw('search', 'offers', 'gpu_name=RTX_4090 num_gpus=1 reliability>0.99')) as {
        id: number;
      }[];
      expect(found).toMatchObject([{ id: 31_514_189, gpu_name: 'RTX 4090' }]);
      expect(await vast('search', 'offers', '--type', 'bid')).toContain('RTX_3090');

      const order = [
        '--image',
        'ubuntu:24.04',
        '--disk',
        '20',
        '--bid_price',
        '0.25',
        '--label',
        'cli',
        '--ssh',
        '--direct',
      ];
      expect(await vast('create', 'instance', '31514189', ...order)).toMatch(/new_contract.*31600001/);
      expect(simulator.account.history).toEqual([{ id: 31_600_001, label: 'cli', isBid: true }]);
      expect(await vast('create', 'instance', '31514189', ...order)).toContain('no_such_ask');
      const contract = await eventually('it runs', () => {
        const contract = simulator.account.contracts.get(31_600_001);
        return contract?.actual === 'running' && contract;
      });
      expect(await raw('show', 'instance', '31600001')).toMatchObject({ actual_status: 'running', is_bid: true });
      expect(await raw('show', 'instances')).toMatchObject([{ id: 31_600_001, label: 'cli' }]);

      const url = new URL((await vast('ssh-url', '31600001')).trim());
      expect(url.username).toBe('root');
      const socket = createConnection(Number(url.port), url.hostname);
      const [banner] = (await once(socket, 'data')) as [Buffer];
      socket.destroy();
      expect(banner.toString()).toMatch(/^SSH-2\.0-OpenSSH/);

      expect(await vast('stop', 'instance', '31600001')).toContain('stopping instance 31600001');
      await eventually('it has stopped', () => contract.actual === 'exited');
      expect(await vast('start', 'instance', '31600001')).toContain('starting instance 31600001');
      await eventually('it runs again', () => contract.actual === 'running');
      contract.isRefusingStarts = true;
      await vast('stop', 'instance', '31600001');
      await eventually('it has stopped again', () => contract.actual === 'exited');
      expect(await vast('start', 'instance', '31600001')).toContain('Required resources are currently unavailable');

      expect(await vast('destroy', 'instance', '31600001', '-y')).toContain('destroying instance 31600001');
      expect(await raw('show', 'instances')).toEqual([]);
      expect(simulator.account.contracts.size).toBe(0);
    },
  );

  test('says what the simulator refuses in the service’s words', WITHIN, async (context) => {
    if (!isInstalled) context.skip('the package index cannot be reached');
    expect(await vast('search', 'offers', 'gpu_name=RTX_9999')).not.toContain('31514189');
    expect(await vast('destroy', 'instance', '7', '-y')).toContain('Instance 7 not found');
    const stranger = { url: simulator.url, apiKey: 'a-wrong-key', home };
    expect(await vastCli(stranger, ['show', 'instances', '--raw']).catch(String)).toContain('Invalid user key');
  });
});
