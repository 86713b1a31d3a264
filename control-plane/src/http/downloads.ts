import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { IRouter, Request, RequestHandler, Response } from 'express';
import express from 'express';
import type { AgentRelease } from '@dumont/shared/model/agent-release.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import { callerOf, publicUrlOf } from './public-url.ts';
import { listReleases, readRelease } from '../releases/list-releases.ts';

export interface DownloadOptions {
  /** Holds `<version>/release.json` and the files it names. */
  readonly folder: string;
  /** The installer with the literals `@DUMONT_CONTROL_URL@` and `@DUMONT_VERSION@` in it. */
  readonly installScript: string;
  /** As configured; absent, each request's own. */
  readonly publicUrl: string | undefined;
}

const YEAR_S = 31_536_000;

/**
 * What a fresh machine fetches before it has any secret: the installer and the agent's builds. Only files that a
 * release names are served, so no path of the caller's ever reaches the disk.
 */
export function createDownloads(options: DownloadOptions): IRouter {
  const router = express.Router({ caseSensitive: true });
  router.get('/install.sh', installer(options));
  router.get('/downloads/release.json', newest(options));
  router.get('/downloads/:version/:file', releaseFile(options));
  return router;
}

function installer(options: DownloadOptions): RequestHandler {
  return async (request, response) => {
    const { version } = await requireNewest(options.folder);
    const url = publicUrlOf(options.publicUrl, callerOf(request));
    const template = await readInstaller(options.installScript);
    const text = template.replaceAll('@DUMONT_CONTROL_URL@', url).replaceAll('@DUMONT_VERSION@', version);
    sendText(request, response, { text, type: 'text/x-shellscript; charset=utf-8' });
  };
}

function newest({ folder }: DownloadOptions): RequestHandler {
  return async (request, response) => {
    const text = `${JSON.stringify(await requireNewest(folder))}\n`;
    sendText(request, response, { text, type: 'application/json; charset=utf-8' });
  };
}

function releaseFile({ folder }: DownloadOptions): RequestHandler<{ version: string; file: string }> {
  return async (request, response) => {
    const { version, file } = request.params;
    const release = await readRelease(folder, version);
    if (release === null) throw await noSuchRelease(folder, version);
    await sendReleaseFile(response, { folder, release, file });
  };
}

/** @throws {DumontError} UNAVAILABLE while nothing is built */
async function requireNewest(folder: string): Promise<AgentRelease> {
  const [newest] = await listReleases(folder);
  return newest ?? throwNothingBuilt(folder);
}

function throwNothingBuilt(folder: string): never {
  throw new DumontError('UNAVAILABLE', `no release of the agent is in ${folder}`, {
    field: 'DUMONT_DOWNLOADS_DIR',
    hint: 'Make one with: npm run build:agent',
  });
}

async function noSuchRelease(folder: string, version: string): Promise<DumontError> {
  const { version: newest } = await requireNewest(folder);
  return new DumontError('NOT_FOUND', `there is no release ${JSON.stringify(version.slice(0, 64))} of the agent`, {
    field: 'version',
    hint: `The newest is ${newest}: /downloads/release.json.`,
  });
}

async function readInstaller(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    throw toDumontError(error, 'UNAVAILABLE', 'reading the installer');
  }
}

/** Something that changes with a release: caches ask each time whether it did. */
function sendText(request: Request, response: Response, body: { readonly text: string; readonly type: string }): void {
  const etag = `"${createHash('sha256').update(body.text).digest('hex')}"`;
  response.setHeader('Cache-Control', 'no-cache');
  response.setHeader('ETag', etag);
  // The URL in it may be that of the request.
  response.setHeader('Vary', 'Host, X-Forwarded-Proto');
  if (request.fresh) {
    response.status(304).end();
    return;
  }
  response.setHeader('Content-Type', body.type);
  response.send(Buffer.from(body.text));
}

/** A file of a release never changes: it may be cached for ever, and fetched in pieces. */
async function sendReleaseFile(
  response: Response,
  what: { readonly folder: string; readonly release: AgentRelease; readonly file: string },
): Promise<void> {
  const { folder, release, file } = what;
  const build = release.builds.find((each) => each.file === file);
  if (build === undefined && file !== 'release.json' && file !== 'SHA256SUMS') {
    throw new DumontError('NOT_FOUND', `release ${release.version} has no file ${JSON.stringify(file.slice(0, 128))}`, {
      field: 'file',
      hint: `It has ${['release.json', 'SHA256SUMS', ...release.builds.map((each) => each.file)].join(', ')}.`,
    });
  }
  response.setHeader('Cache-Control', `public, max-age=${YEAR_S}, immutable`);
  if (build !== undefined) {
    // Strong, so that a download that was cut off can go on where it ended.
    response.setHeader('ETag', `"${build.compressedSha256}"`);
    response.setHeader('Content-Type', 'application/gzip');
  } else if (file === 'SHA256SUMS') {
    response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  }
  const root = resolve(join(folder, release.version));
  await new Promise<void>((done, fail) => {
    response.sendFile(file, { root, cacheControl: false, lastModified: false }, (error: unknown) => {
      if (error === undefined || error === null || response.headersSent) done();
      else fail(missingFile(error, release, file));
    });
  });
}

function missingFile(error: unknown, release: AgentRelease, file: string): DumontError {
  return new DumontError('UNAVAILABLE', `release ${release.version} is incomplete: ${file} cannot be read`, {
    hint: 'Build it again with: npm run build:agent',
    cause: error,
  });
}
