import { createServer, type Server } from 'node:http';
import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import { CredentialFile, credentialPath } from '@dumont/agent/identity/credential-file.ts';
import { explainEnrolFailure } from '@dumont/agent/identity/enrol-failure.ts';
import { join, type JoinParts } from '@dumont/agent/identity/join.ts';
import type { EnrolBody } from '@dumont/shared/api/endpoints.ts';
import { newId } from '@dumont/shared/model/ids.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';
import { expect, test } from 'vitest';
import { makeTempFolder } from '../../../world/temp-folder.ts';

const identity = { instanceId: newId('instance'), role: 'gpu', workspaceId: newId('workspace') } as const;
const TOKEN = 't'.repeat(43);
const options = { patienceMs: 5_000, signal: new AbortController().signal };

/** Answers enrolments as told, one answer a call, the last one for ever: `lost` works but never answers. */
class EnrolServer implements AsyncDisposable {
  readonly bodies: EnrolBody[] = [];
  readonly #server: Server;

  private constructor(answers: readonly ('joined' | 'lost' | 'busy' | 'refused')[]) {
    this.#server = createServer((request, response) => {
      let text = '';
      request.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      request.on('end', () => {
        const answer = answers[Math.min(this.bodies.length, answers.length - 1)];
        this.bodies.push(JSON.parse(text) as EnrolBody);
        if (answer === 'lost') request.socket.destroy();
        else if (answer === 'joined')
          response.setHeader('content-type', 'application/json').end(JSON.stringify(identity));
        else if (answer === 'busy') response.writeHead(503).end('starting\n');
        else {
          const problem = { type: 't', title: 't', status: 401, detail: 'the token was used', code: 'UNAUTHORIZED' };
          response.writeHead(401, { 'content-type': 'application/problem+json' }).end(JSON.stringify(problem));
        }
      });
    });
  }

  static async start(...answers: readonly ('joined' | 'lost' | 'busy' | 'refused')[]): Promise<EnrolServer> {
    const server = new EnrolServer(answers);
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve));
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

async function partsFor(folder: string, server: EnrolServer, over: Partial<JoinParts> = {}): Promise<JoinParts> {
  const file = await CredentialFile.open(credentialPath(folder));
  const base = { controlUrl: server.url, enrolToken: TOKEN, clock: systemClock, random: systemRandom };
  return { ...base, file, onRetry: () => {}, ...over };
}

test('the credential is on disk, for its owner alone, before the control plane hears of it', async () => {
  await using folder = await makeTempFolder();
  await using server = await EnrolServer.start('refused');
  await expect(join(await partsFor(folder.path, server), options)).rejects.toMatchObject({ code: 'UNAUTHORIZED' });
  const path = credentialPath(folder.path);
  const { credential } = JSON.parse(await readFile(path, 'utf8')) as { readonly credential: string };
  expect(server.bodies.map((body) => body.credential)).toEqual([credential]);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  await chmod(path, 0o644);
  await CredentialFile.open(path);
  expect((await stat(path)).mode & 0o777).toBe(0o600);
});

test('a lost answer and a control plane that starts cost another attempt with the same credential, even after a crash', async () => {
  await using folder = await makeTempFolder();
  await using server = await EnrolServer.start('lost', 'busy', 'lost', 'joined');
  const impatient = { ...options, patienceMs: 0 };
  await expect(join(await partsFor(folder.path, server), impatient)).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(await join(await partsFor(folder.path, server), options)).toMatchObject({ kind: 'joined', identity });
  expect(new Set(server.bodies.map(({ credential }) => credential)).size).toBe(1);
  expect(await join(await partsFor(folder.path, server, { enrolToken: null }), options)).toMatchObject({
    kind: 'member',
  });
  expect(server.bodies).toHaveLength(4);
});

test('an identity is neither shown to another control plane nor replaced by another token', async () => {
  await using folder = await makeTempFolder();
  await using server = await EnrolServer.start('joined');
  await join(await partsFor(folder.path, server), options);
  const elsewhere = await partsFor(folder.path, server, { controlUrl: 'http://127.0.0.1:1' });
  await expect(join(elsewhere, options)).rejects.toMatchObject({
    code: 'CONFLICT',
    field: 'DUMONT_CONTROL_URL',
    message: new RegExp(credentialPath(folder.path)),
  });
  const other = await partsFor(folder.path, server, { enrolToken: 'o'.repeat(43) });
  expect(await join(other, options)).toMatchObject({ kind: 'member', isOtherToken: true });
});

test('an identity that is over stays over, until a new token begins another', async () => {
  await using folder = await makeTempFolder();
  await using server = await EnrolServer.start('joined');
  const parts = await partsFor(folder.path, server);
  await join(parts, options);
  await parts.file.markReleased();
  expect(await join(await partsFor(folder.path, server), options)).toMatchObject({ kind: 'released' });
  const anew = await partsFor(folder.path, server, { enrolToken: 'n'.repeat(43) });
  expect(await join(anew, options)).toMatchObject({ kind: 'joined' });
  expect(new Set(server.bodies.map(({ credential }) => credential)).size).toBe(2);
});

test('without a token, and with a file that is no credential, it says what to do and touches nothing', async () => {
  await using folder = await makeTempFolder();
  await using server = await EnrolServer.start('joined');
  await expect(join(await partsFor(folder.path, server, { enrolToken: null }), options)).rejects.toMatchObject({
    code: 'USAGE',
    field: 'DUMONT_ENROL_TOKEN',
  });
  await writeFile(credentialPath(folder.path), '{"credential":"half a fi');
  const failure = await partsFor(folder.path, server).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: 'CORRUPT' });
  expect(String(failure)).not.toContain('half');
  expect(server.bodies).toEqual([]);
});

test.each([
  ['CERT_NOT_YET_VALID', /not valid at this machine's time, 2026-/],
  ['CERT_HAS_EXPIRED', /not valid at this machine's time, 2026-/],
  ['SELF_SIGNED_CERT_IN_CHAIN', /does not trust/],
  ['ERR_TLS_CERT_ALTNAME_INVALID', /not for control\.example/],
  ['ERR_SSL_WRONG_VERSION_NUMBER', /does not speak TLS/],
])('%s is said in words and not tried again', (code, words) => {
  const cause = Object.assign(new Error('fetch failed'), { cause: Object.assign(new Error(code), { code }) });
  const failure = new DumontError('UNAVAILABLE', 'cannot reach', { retryable: true, cause });
  const at = { controlUrl: 'https://control.example', nowMs: Date.UTC(2026, 0, 1) };
  const explained = explainEnrolFailure(failure, at);
  expect(explained).toMatchObject({ code: 'UNAVAILABLE', retryable: false, message: words });
  expect(explained.hint).toBeDefined();
});
