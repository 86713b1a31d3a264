import { open, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';

/** The executable's name inside a version's folder. */
export const EXECUTABLE = 'dumont-agent';

/**
 * Versions installed side by side: `<prefix>/versions/<version>/` holds one, the link `<prefix>/current` names the one
 * that runs. Methods throw {@link DumontError} IO.
 */
export class InstalledVersions {
  readonly prefix: string;
  readonly versionsDir: string;

  constructor(prefix: string) {
    this.prefix = prefix;
    this.versionsDir = join(prefix, 'versions');
  }

  versionDir(version: string): string {
    return join(this.versionsDir, version);
  }

  /** Where a version is built up before it counts. */
  partialDir(version: string): string {
    return `${this.versionDir(version)}.partial`;
  }

  /** The version that `current` names; null without the link. */
  async current(): Promise<string | null> {
    try {
      return basename(await readlink(join(this.prefix, 'current')));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return null;
      throw toDumontError(error, 'IO', `reading the link ${this.prefix}/current`);
    }
  }

  /** Points `current` at a version, in one step that a crash cannot split. */
  async switchTo(version: string): Promise<void> {
    const fresh = join(this.prefix, 'current.new');
    try {
      await rm(fresh, { force: true });
      await symlink(join('versions', version), fresh);
      await rename(fresh, join(this.prefix, 'current'));
      await syncFolder(this.prefix);
    } catch (error) {
      throw toDumontError(error, 'IO', `switching ${this.prefix}/current to ${version}`);
    }
  }

  /** Removes every version and every half-made one, except these and what `current` names. */
  async keepOnly(versions: ReadonlySet<string>): Promise<void> {
    try {
      const current = await this.current();
      for (const name of await readdir(this.versionsDir)) {
        if (name === current || versions.has(name)) continue;
        await rm(join(this.versionsDir, name), { recursive: true, force: true });
      }
    } catch (error) {
      throw toDumontError(error, 'IO', `tidying ${this.versionsDir}`);
    }
  }
}

/** Makes renames inside a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  await using folder = await open(path, 'r');
  await folder.sync();
}
