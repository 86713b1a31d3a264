import { readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  formatUpgradeNote,
  parseUpgradeNote,
  UPGRADE_FAILED,
  UPGRADE_PENDING,
  type UpgradeNote,
} from '@dumont/shared/node/upgrade-note.ts';
import { systemErrorCode } from '@dumont/shared/util/errors.ts';

/** Where an installed agent and its notes are. */
export interface Installation {
  /** Holds `versions/` and the link `current`. */
  readonly prefix: string;
  readonly stateDir: string;
}

/** One crash may be the machine's; the second is the new version's. */
const MAX_CRASHES = 2;

/** The supervisor's part in an upgrade: decides when a new version has failed, and goes back to the old one. */
export class UpgradeWatch {
  readonly #installation: Installation;
  #crashes = 0;

  constructor(installation: Installation) {
    this.#installation = installation;
  }

  /** The upgrade that waits for its agent to be welcomed; null without one. Asked before and after each run. */
  async pending(): Promise<UpgradeNote | null> {
    try {
      return parseUpgradeNote(await readFile(this.#path(UPGRADE_PENDING), 'utf8'));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') {
        this.#crashes = 0;
        return null;
      }
      throw error;
    }
  }

  /** Counts a run that ended neither on purpose nor for a restart. True when the version had its chances. */
  crashed(): boolean {
    this.#crashes += 1;
    return this.#crashes >= MAX_CRASHES;
  }

  /** Points `current` at the old version and leaves a note with the reason for its agent. */
  async rollBack({ from, to }: UpgradeNote, reason: string): Promise<void> {
    const { prefix } = this.#installation;
    const fresh = join(prefix, 'current.new');
    await rm(fresh, { force: true });
    await symlink(join('versions', from), fresh);
    await rename(fresh, join(prefix, 'current'));
    await writeFile(this.#path(UPGRADE_PENDING), formatUpgradeNote({ from, to, reason }), { mode: 0o600 });
    await rename(this.#path(UPGRADE_PENDING), this.#path(UPGRADE_FAILED));
    this.#crashes = 0;
  }

  #path(name: string): string {
    return join(this.#installation.stateDir, name);
  }
}
