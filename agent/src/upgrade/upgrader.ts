import { execFile } from 'node:child_process';
import { access, constants, mkdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { AgentBuild } from '@dumont/shared/model/agent-release.ts';
import type { Action, ActionResult } from '@dumont/shared/protocol/command.ts';
import type { LastUpgrade } from '@dumont/shared/protocol/hello.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { compareVersions } from '@dumont/shared/util/compare-versions.ts';
import { DumontError, toDumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import type { WorkOptions } from '../lease/engine.ts';
import { fetchBuild, unpackBuild } from './fetch-build.ts';
import { EXECUTABLE, InstalledVersions, syncFolder } from './installed-versions.ts';
import type { UpgradeNotes } from './upgrade-notes.ts';

type UpgradeOrder = Extract<Action, { name: 'upgrade' }>;
type UpgradeResult = Extract<ActionResult, { name: 'upgrade' }>;

/** An upgrade must not take the last of a disk that the user's work needs. */
const DISK_RESERVE_BYTES = 67_108_864;
/** A cold start from a slow disk takes a second or two. */
const TRIAL_TIMEOUT_MS = 15_000;

const run = promisify(execFile);

export interface UpgraderOptions {
  /** DUMONT_INSTALL_DIR; null when this agent was not installed. */
  readonly installDir: string | null;
  /** DUMONT_CONTROL_URL, for downloads given as a path. */
  readonly controlUrl: string;
  readonly ownVersion: string;
  readonly notes: UpgradeNotes;
  /** How the last attempt ended, as the agent found it at its start. */
  readonly lastUpgrade: LastUpgrade | null;
  readonly arch: string;
  readonly clock: Clock;
  readonly random: Random;
}

/** Installs another version of this agent beside the running one and makes it the next to be started. */
export class Upgrader {
  readonly #options: UpgraderOptions;
  #isBusy = false;
  /** Set by the first welcome; a reconnect must not take the note of a newer upgrade away. */
  #settled: Promise<void> | null = null;

  constructor(options: UpgraderOptions) {
    this.#options = options;
  }

  /**
   * Downloads, verifies and tries the version, then switches to it. The caller answers, then restarts. Nothing of the
   * running version is touched; what was downloaded is kept for another attempt.
   * @returns equal versions when this one runs already
   * @throws {DumontError} UNSUPPORTED without an installation or a build for this machine; CONFLICT for a downgrade, a
   * version that was rolled back here, or while another upgrade is under way; LIMIT without room; CORRUPT; NOT_FOUND,
   * UNAVAILABLE; IO; ABORTED
   */
  async perform(order: UpgradeOrder, options: WorkOptions): Promise<UpgradeResult> {
    const from = this.#options.ownVersion;
    const to = order.release.version;
    if (from === to) return { name: 'upgrade', from, to };
    if (this.#isBusy) throw new DumontError('CONFLICT', 'another upgrade is under way', { retryable: true });
    this.#isBusy = true;
    try {
      // Tidying up after the last one removes half-made versions.
      await this.#settled?.catch(() => {});
      const layout = await this.#layout();
      this.#refuseUnwanted(order);
      await this.#provide(layout, order, options);
      options.signal.throwIfAborted();
      await this.#options.notes.begin({ from, to });
      await layout.switchTo(to);
      return { name: 'upgrade', from, to };
    } finally {
      this.#isBusy = false;
    }
  }

  /**
   * The control plane has welcomed this version: ends the supervisor's watch and keeps one older version. Once per
   * process, unless it failed.
   * @throws {DumontError} IO
   */
  async welcomed(): Promise<void> {
    if (this.#settled === null && this.#isBusy) return;
    this.#settled ??= this.#settle();
    try {
      await this.#settled;
    } catch (error) {
      this.#settled = null;
      throw error;
    }
  }

  async #settle(): Promise<void> {
    const { notes, installDir, lastUpgrade, ownVersion } = this.#options;
    await notes.settle();
    if (installDir === null || lastUpgrade === null) return;
    const previous = lastUpgrade.outcome === 'upgraded' ? lastUpgrade.from : ownVersion;
    await new InstalledVersions(installDir).keepOnly(new Set([previous, ownVersion]));
  }

  async #layout(): Promise<InstalledVersions> {
    const { installDir } = this.#options;
    if (installDir === null) {
      throw new DumontError('UNSUPPORTED', 'this agent cannot upgrade itself: it was not installed', {
        hint: 'Install it with the install.sh of the control plane, which sets DUMONT_INSTALL_DIR.',
      });
    }
    const layout = new InstalledVersions(installDir);
    try {
      await access(layout.prefix, constants.W_OK);
      await access(layout.versionsDir, constants.W_OK);
    } catch (error) {
      throw new DumontError('IO', `cannot install into ${layout.versionsDir}: ${toDumontError(error).message}`, {
        hint: 'The user of the agent must be able to write there.',
        cause: error,
      });
    }
    return layout;
  }

  #refuseUnwanted({ release, force }: UpgradeOrder): void {
    const { ownVersion, lastUpgrade } = this.#options;
    const { version } = release;
    if (force) return;
    if (compareVersions(version, ownVersion) < 0) {
      throw new DumontError('CONFLICT', `version ${version} is older than ${ownVersion}, which runs`, {
        hint: 'Ask with force to go back.',
      });
    }
    if (lastUpgrade?.outcome === 'rolled-back' && lastUpgrade.to === version) {
      throw new DumontError('CONFLICT', `version ${version} was rolled back here: ${lastUpgrade.reason ?? ''}`, {
        hint: 'Ask with force to try it again.',
      });
    }
  }

  /** Has the version in its folder, complete and tried. */
  async #provide(layout: InstalledVersions, order: UpgradeOrder, options: WorkOptions): Promise<void> {
    const { version } = order.release;
    const partial = layout.partialDir(version);
    const build = this.#buildFor(order);
    const packed = join(partial, build.file);
    try {
      await mkdir(partial, { recursive: true });
    } catch (error) {
      throw toDumontError(error, 'IO', `making ${partial}`);
    }
    await refuseWithoutRoom(partial, build);
    await this.#download(order, build, packed, options);
    const executable = join(partial, EXECUTABLE);
    await unpackBuild(packed, executable, build, options.signal);
    await tryOut(executable, version, options.signal);
    await runNew(executable, ['host-files', partial], options.signal);
    try {
      await rm(packed);
      await syncFolder(partial);
      // Left by an earlier installation of it: it is not the version that runs, so nobody uses it.
      await rm(layout.versionDir(version), { recursive: true, force: true });
      await rename(partial, layout.versionDir(version));
      await syncFolder(layout.versionsDir);
    } catch (error) {
      throw toDumontError(error, 'IO', `installing version ${version}`);
    }
  }

  #buildFor({ release }: UpgradeOrder): AgentBuild {
    const { arch } = this.#options;
    const build = release.builds.find((each) => each.arch === arch);
    if (build !== undefined) return build;
    const built = release.builds.map((each) => each.arch).join(', ');
    throw new DumontError('UNSUPPORTED', `version ${release.version} is not built for ${arch}, only for ${built}`);
  }

  async #download(order: UpgradeOrder, build: AgentBuild, path: string, options: WorkOptions): Promise<void> {
    const { controlUrl, clock, random } = this.#options;
    const totals = { totalBytes: build.compressedBytes, doneFiles: 0, totalFiles: 1 };
    await fetchBuild({
      url: downloadUrlOf(controlUrl, order.downloadUrl) + encodeURIComponent(build.file),
      build,
      path,
      clock,
      random,
      onProgress: (doneBytes) => options.onProgress({ doneBytes, ...totals }),
      signal: options.signal,
    });
  }
}

/** A path is one of the control plane as this agent reaches it, below the path of its base URL. */
function downloadUrlOf(controlUrl: string, downloadUrl: string): string {
  if (!downloadUrl.startsWith('/')) return downloadUrl;
  const url = new URL(controlUrl);
  url.protocol = url.protocol.replace('ws', 'http');
  url.pathname = url.pathname.replace(/\/$/, '') + downloadUrl;
  return url.href;
}

async function refuseWithoutRoom(folder: string, build: AgentBuild): Promise<void> {
  const neededBytes = build.compressedBytes + build.bytes + DISK_RESERVE_BYTES;
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= neededBytes) return;
  throw new DumontError(
    'LIMIT',
    `no room for an upgrade: ${folder} has ${bavail * bsize} bytes, ${neededBytes} needed`,
    {
      hint: 'Make room on that disk.',
    },
  );
}

/** Does it start at all on this machine, and is it what it claims to be? */
async function tryOut(executable: string, version: string, signal: AbortSignal): Promise<void> {
  const words = (await runNew(executable, ['--version'], signal)).trim();
  if (words === `dumont-agent ${version}`) return;
  throw new DumontError('CORRUPT', `the new agent calls itself "${words.slice(0, 100)}", not version ${version}`);
}

async function runNew(executable: string, args: readonly string[], signal: AbortSignal): Promise<string> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(TRIAL_TIMEOUT_MS)]);
  try {
    const { stdout } = await run(executable, args, {
      env: { PATH: process.env['PATH'] ?? '' },
      signal: limit,
      killSignal: 'SIGKILL',
    });
    return stdout;
  } catch (error) {
    if (signal.aborted) throw new DumontError('ABORTED', 'the upgrade was stopped', { cause: signal.reason });
    throw new DumontError('UNSUPPORTED', `the new agent does not run here: ${toDumontError(error).message}`, {
      cause: error,
    });
  }
}
