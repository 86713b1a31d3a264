import { once } from 'node:events';
import { createServer } from 'node:net';
import { listEvents } from '@dumont/control-plane/store/events.ts';
import { expect, test } from 'vitest';
import { onEachDatabase } from '../../../world/databases.ts';
import { eventually } from '../../../world/eventually.ts';
import { DOMAIN, GatewayWorld, talk } from './gateway-world.ts';

onEachDatabase((database) => {
  test('a connection is held until there is a machine, and goes to the one that serves', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('held');
    const { socket, all } = talk(workspace.port);
    await once(socket, 'connect');
    const ssh = await world.tcp((machine) => machine.end('first\n'));
    await world.promote(workspace.id, await world.machine(workspace.id, { ssh }));
    expect(await all).toBe('first\n');
  });

  test('a connection that no machine serves in time is ended with a reason', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db, { holdMs: 200 });
    const workspace = await world.workspace('nobody');
    expect(await talk(workspace.port).all).toBe('dumont: no machine serves this workspace now, try again\r\n');
  });

  test('a forwarder without anybody behind it counts as no machine, and loses nothing of what the user says', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('starting');
    let refusals = 3;
    const ssh = await world.tcp((machine) => {
      refusals -= 1;
      if (refusals >= 0) machine.destroy();
      else {
        machine.write('ready\n');
        machine.pipe(machine);
      }
    });
    await world.promote(workspace.id, await world.machine(workspace.id, { ssh }));
    const { socket, all } = talk(workspace.port);
    socket.end('said at once\n');
    expect(await all).toBe('ready\nsaid at once\n');
    expect(refusals).toBe(-1);
  });

  test('a machine that waits for the user to speak first is served too, and half a connection stays open', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db, { greetingMs: 50 });
    const workspace = await world.workspace('mute');
    const ssh = await world.tcp((machine) => {
      machine.resume().once('end', () => machine.end('you have ended, I have not'));
    });
    await world.promote(workspace.id, await world.machine(workspace.id, { ssh }));
    const { socket, all } = talk(workspace.port);
    socket.end('question');
    expect(await all).toBe('you have ended, I have not');
  });

  test('a move ends what is open to the old machine after its last bytes, and says so once', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('moving');
    const old = await world.machine(workspace.id, { ssh: await world.tcp((machine) => machine.write('old\n')) });
    const fresh = await world.machine(workspace.id, { ssh: await world.tcp((machine) => machine.end('new\n')) });
    await world.promote(workspace.id, old);
    const first = talk(workspace.port);
    await once(first.socket, 'readable');
    await world.promote(workspace.id, fresh);
    expect(await first.all).toBe('old\n');
    expect(await talk(workspace.port).all).toBe('new\n');
    const events = await eventually('both moves are told', async () => {
      const all = await listEvents(world.db, { after: 0, limit: 100, workspaceId: workspace.id });
      const moves = all.filter(({ type }) => type === 'gateway.moved').map(({ data }) => data);
      return moves.length === 2 && moves;
    });
    expect(events).toMatchObject([
      { from: null, to: old, endedConnections: 0 },
      { from: old, to: fresh, endedConnections: 1 },
    ]);
  });

  test('a workspace has no more connections than its bound, and a place given back is free', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db, { maxPerWorkspace: 2 });
    const workspace = await world.workspace('full');
    const ssh = await world.tcp((machine) => machine.write('in\n') && machine.pipe(machine));
    await world.promote(workspace.id, await world.machine(workspace.id, { ssh }));
    const two = [talk(workspace.port), talk(workspace.port)];
    await Promise.all(two.map(({ socket }) => once(socket, 'readable')));
    expect(await talk(workspace.port).all).toBe('dumont: too many connections to this workspace\r\n');
    two[0]?.socket.end();
    expect(await two[0]?.all).toBe('in\n');
    const again = await eventually('there is room', async () => {
      const next = talk(workspace.port);
      next.socket.end();
      const text = await next.all;
      return text === 'in\n' && text;
    });
    expect(again).toBe('in\n');
    two[1]?.socket.end();
    await two[1]?.all;
  });

  test('a port that a stranger holds is passed over; one that is a workspace’s own stays its own', async () => {
    await using opened = await database.open();
    await using stranger = createServer();
    let kept: number;
    {
      await using world = await GatewayWorld.start(opened.db);
      const { port } = await world.workspace('first');
      kept = port;
    }
    stranger.listen(kept, '127.0.0.1');
    await once(stranger, 'listening');
    await using world = await GatewayWorld.start(opened.db);
    const second = await world.workspace('second');
    expect(second.port).not.toBe(kept);
    const rows = await opened.db.query('select port from gateways order by port');
    expect(rows.map(({ port }) => port)).toContain(kept);
  });

  test('over HTTP the wait is a page for people and a problem for programs', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('waiting');
    const page = await fetch(workspace.http, { headers: { accept: 'text/html' } });
    expect([page.status, page.headers.get('retry-after')]).toEqual([503, '1']);
    const html = await page.text();
    expect(html).toContain('<meta http-equiv="refresh" content="1">');
    expect(html).toContain('No machine serves waiting now.');
    const problem = await fetch(workspace.http, { headers: { accept: 'application/json' } });
    expect(await problem.json()).toMatchObject({ status: 503, code: 'UNAVAILABLE' });
    await world.promote(workspace.id, await world.machine(workspace.id, { http: { host: '127.0.0.1', port: 1 } }));
    const starting = await eventually('its machine is known', async () => {
      const { detail } = (await (await fetch(workspace.http)).json()) as { detail: string };
      return detail.includes('port 80') && detail;
    });
    expect(starting).toBe('The workload of waiting does not answer on port 80.');
  });

  test('what is not HTTP is a bad gateway, and a request that went round is refused', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('odd');
    const http = await world.tcp((machine) => machine.end('SSH-2.0-nothing\r\n'));
    await world.promote(workspace.id, await world.machine(workspace.id, { http }));
    await eventually('it is reached', async () => (await fetch(workspace.http)).status === 502);
    expect((await fetch(workspace.http, { headers: { via: '1.0 a, 1.1 dumont' } })).status).toBe(508);
  });

  test('by host name a workspace has all paths, also those of the control plane', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('Named');
    const http = await world.http((request, response) => response.end(`${request.headers.host} ${request.url}`));
    await world.promote(workspace.id, await world.machine(workspace.id, { http }));
    const port = Number(new URL(world.url).port);
    const ask = async (host: string, path: string) => {
      const { socket, all } = talk(port);
      socket.write(`GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      return all;
    };
    expect(await ask(`named.${DOMAIN}:80`, '/api/v1/health')).toContain(`named.${DOMAIN}:80 /api/v1/health`);
    expect(await ask(`unknown.${DOMAIN}`, '/')).toMatch(/^HTTP\/1\.1 401 /);
    expect(await ask(DOMAIN, '/')).toContain('the control plane itself');
    expect(await ask('127.0.0.1', '/elsewhere')).toContain('the control plane itself');
  });

  test('an answer that breaks off is seen to break off, also at a machine that dies', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('broken');
    const http = await world.http((request, response) => {
      if (request.url === '/ok') response.end('ok');
      else response.write('half', () => request.socket.destroy());
    });
    await world.promote(workspace.id, await world.machine(workspace.id, { http }));
    await expect(fetch(`${workspace.http}half`).then((response) => response.text())).rejects.toThrow();
    expect(await (await fetch(`${workspace.http}ok`)).text()).toBe('ok');
  });

  test('an idle connection that the workload closed is no failure of the next request', async () => {
    await using opened = await database.open();
    await using world = await GatewayWorld.start(opened.db);
    const workspace = await world.workspace('idle');
    const http = await world.http((request, response) => {
      response.end('ok', () => setImmediate(() => request.socket.destroy()));
    });
    await world.promote(workspace.id, await world.machine(workspace.id, { http }));
    for (let count = 0; count < 50; count += 1) {
      const response = await fetch(workspace.http);
      expect([response.status, await response.text()]).toEqual([200, 'ok']);
    }
  });
});
