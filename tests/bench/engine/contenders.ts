import { join } from 'node:path';
import { builtAgent } from '../../world/agent-build.ts';
import { isOnPath, type Command } from './measure.ts';

/** The executable that users install, as the peers are executables. */
const AGENT = (await builtAgent()).path;

export type ContenderName = 'dumont' | 'dumont-small' | 'restic' | 'kopia' | 'tar-lz4' | 'cp';

/** One way to keep a folder and to get it back; folders are absolute, `store` is empty before `init`. */
export interface Contender {
  readonly name: ContenderName;
  /** It keeps what it has and adds what is new, so that a second snapshot means something. */
  readonly isIncremental: boolean;
  isPresent(): boolean;
  /** Run before the clock starts. */
  init(store: string): readonly Command[];
  snapshot(folder: string, store: string): Command;
  restore(store: string, target: string): Command;
}

const ARCHIVE = 'archive.tar.lz4';

function shell(script: string, ...args: readonly string[]): Command {
  return { argv: ['bash', '-o', 'pipefail', '-c', script, 'bash', ...args] };
}

function dumont(name: 'dumont' | 'dumont-small', flags: readonly string[]): Contender {
  const agent = (...args: readonly string[]): Command => ({ argv: [AGENT, ...args] });
  return {
    name,
    isIncremental: true,
    isPresent: () => true,
    init: () => [],
    snapshot: (folder, store) => agent('snapshot', folder, '--to', `file://${store}`, '--json', ...flags),
    restore: (store, target) => agent('restore', '--from', `file://${store}`, '--to', target, '--json'),
  };
}

const restic: Contender = {
  name: 'restic',
  isIncremental: true,
  isPresent: () => isOnPath('restic'),
  init: (store) => [resticCommand(store, ['init'])],
  snapshot: (folder, store) => ({ ...resticCommand(store, ['backup', '.']), cwd: folder }),
  restore: (store, target) => resticCommand(store, ['restore', 'latest', '--target', target]),
};

function resticCommand(store: string, args: readonly string[]): Command {
  return {
    argv: ['restic', '-q', '-r', store, '--cache-dir', `${store}.cache`, ...args],
    env: { RESTIC_PASSWORD: 'bench' },
  };
}

const kopia: Contender = {
  name: 'kopia',
  isIncremental: true,
  isPresent: () => isOnPath('kopia'),
  init: (store) => [kopiaCommand(store, ['repository', 'create', 'filesystem', '--path', store])],
  snapshot: (folder, store) => kopiaCommand(store, ['snapshot', 'create', folder]),
  restore: (store, target) => ({
    ...shell(
      `id=$(kopia --config-file "$1.config" snapshot list --all --json | grep -o '"obj":"[^"]*"' | tail -1 | cut -d'"' -f4)
       kopia --config-file "$1.config" snapshot restore "$id" "$2"`,
      store,
      target,
    ),
    env: kopiaEnvironment(store),
  }),
};

function kopiaCommand(store: string, args: readonly string[]): Command {
  return { argv: ['kopia', '--config-file', `${store}.config`, ...args], env: kopiaEnvironment(store) };
}

function kopiaEnvironment(store: string): Readonly<Record<string, string>> {
  return { KOPIA_PASSWORD: 'bench', KOPIA_CACHE_DIRECTORY: `${store}.cache`, KOPIA_CHECK_FOR_UPDATES: 'false' };
}

const tarLz4: Contender = {
  name: 'tar-lz4',
  isIncremental: false,
  isPresent: () => isOnPath('tar') && isOnPath('lz4'),
  init: () => [],
  snapshot: (folder, store) =>
    shell('mkdir -p "$2" && tar -C "$1" -cf - . | lz4 -1 -q - "$3"', folder, store, join(store, ARCHIVE)),
  restore: (store, target) => shell('mkdir -p "$2" && lz4 -dcq "$1" | tar -C "$2" -xf -', join(store, ARCHIVE), target),
};

const cp: Contender = {
  name: 'cp',
  isIncremental: false,
  isPresent: () => true,
  init: () => [],
  snapshot: (folder, store) => shell('mkdir -p "$2" && cp -r "$1/." "$2"', folder, store),
  restore: (store, target) => shell('mkdir -p "$2" && cp -r "$1/." "$2"', store, target),
};

/** Those that are installed, in the order they take turns. */
export function presentContenders(): readonly Contender[] {
  const all = [dumont('dumont', []), dumont('dumont-small', ['--effort', 'small']), restic, kopia, tarLz4, cp];
  return all.filter((contender) => contender.isPresent());
}
