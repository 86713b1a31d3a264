import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LastUpgrade } from '@dumont/shared/protocol/hello.ts';
import {
  formatUpgradeNote,
  parseUpgradeNote,
  UPGRADE_FAILED,
  UPGRADE_PENDING,
  type UpgradeNote,
} from '@dumont/shared/node/upgrade-note.ts';
import { isDumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { writeFileAtomic } from '../host/write-file-atomic.ts';
import { syncFolder } from './installed-versions.ts';

/** The agent's end of the files by which it settles an upgrade with its supervisor. Methods throw IO. */
export class UpgradeNotes {
  readonly #stateDir: string;

  constructor(stateDir: string) {
    this.#stateDir = stateDir;
  }

  /** To be written before the versions are switched: from then on the supervisor watches over the new one. */
  async begin(note: UpgradeNote): Promise<void> {
    await writeFileAtomic(this.#path(UPGRADE_PENDING), formatUpgradeNote(note));
    await syncFolder(this.#stateDir);
  }

  /** How the last attempt ended, as this version sees it; null when there was none that was not told. */
  async lastUpgrade(ownVersion: string): Promise<LastUpgrade | null> {
    const failed = await this.#read(UPGRADE_FAILED);
    if (failed !== null) return { outcome: 'rolled-back', ...failed };
    const pending = await this.#read(UPGRADE_PENDING);
    if (pending === null) return null;
    if (pending.to === ownVersion) return { outcome: 'upgraded', ...pending };
    const { from, to } = pending;
    return { outcome: 'rolled-back', from, to, reason: `version ${ownVersion} was started instead` };
  }

  /** The control plane knows: the supervisor need watch no more. Idempotent. */
  async settle(): Promise<void> {
    for (const name of [UPGRADE_PENDING, UPGRADE_FAILED]) await rm(this.#path(name), { force: true });
  }

  #path(name: string): string {
    return join(this.#stateDir, name);
  }

  /** Null when there is none; one that cannot be understood says nothing and is removed with the next settling. */
  async #read(name: string): Promise<UpgradeNote | null> {
    try {
      return parseUpgradeNote(await readFile(this.#path(name), 'utf8'));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT' || isDumontError(error, 'CORRUPT')) return null;
      throw toDumontError(error, 'IO', `reading ${this.#path(name)}`);
    }
  }
}
