import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const INSTALL = join(import.meta.dirname, '../../install');

/** What becomes of `dumont-agent run`: it connects, it fails at once, is refused, or lives and never connects. */
export type Conduct = 'connects' | 'crashes' | 'is-refused' | 'hangs';

export interface StandIn {
  readonly version: string;
  readonly conduct?: Conduct;
  /** What release.json claims the program needs on the disk. */
  readonly claimedBytes?: number;
  /** What `--version` does instead of telling the version. */
  readonly versionCommand?: string;
}

/**
 * A release whose program is a shell script that keeps the agent's promises to installer and supervisor: exit codes,
 * signals, host-files, enrol, upgrade.pending. The newest is the one made last.
 * @param folder as the release server serves it
 */
export async function makeRelease(folder: string, standIn: StandIn): Promise<void> {
  const { version } = standIn;
  const target = join(folder, 'downloads', version);
  await mkdir(target, { recursive: true });
  const program = Buffer.from(await standInProgram(standIn));
  const packed = gzipSync(program);
  const [builds, sums]: [object[], string[]] = [[], []];
  for (const arch of ['x64', 'arm64']) {
    const name = `dumont-agent-${version}-linux-${arch}`;
    await writeFile(join(target, `${name}.gz`), packed);
    sums.push(`${sha256(packed)}  ${name}.gz`, `${sha256(program)}  ${name}`);
    builds.push({
      arch,
      file: `${name}.gz`,
      compressedBytes: packed.length,
      compressedSha256: sha256(packed),
      bytes: standIn.claimedBytes ?? program.length,
      sha256: sha256(program),
    });
  }
  await writeFile(join(target, 'release.json'), JSON.stringify({ version, builds }, null, 2));
  await writeFile(join(target, 'SHA256SUMS'), `${sums.join('\n')}\n`);
  await writeFile(join(folder, 'install.sh'), await readFile(join(INSTALL, 'install.sh')));
  await writeFile(join(folder, 'newest'), version);
}

async function standInProgram({ version, conduct = 'connects', versionCommand }: StandIn): Promise<string> {
  const [supervisor, installer] = await Promise.all(
    ['supervisor.sh', 'install.sh'].map((name) => readFile(join(INSTALL, name), 'utf8')),
  );
  // The supervisors of two versions differ, as they may.
  return `#!/bin/sh
version='${version}' conduct=${conduct}
host_files() {
  cat >"$1/dumont-supervisor" <<'END_OF_SUPERVISOR'
${supervisor}# ${version}
END_OF_SUPERVISOR
  cat >"$1/install.sh" <<'END_OF_INSTALLER'
${installer}END_OF_INSTALLER
  chmod 755 "$1/dumont-supervisor" "$1/install.sh"
}
enrol() {
  case $DUMONT_ENROL_TOKEN in
    refused*) printf '{}' >"$DUMONT_STATE_DIR/credential.json"; echo "token $DUMONT_ENROL_TOKEN was used before" >&2; exit 77 ;;
    lost*) printf '{}' >"$DUMONT_STATE_DIR/credential.json"; echo 'no answer' >&2; exit 69 ;;
  esac
  umask 077
  [ -f "$DUMONT_STATE_DIR/credential.json" ] || printf '{"credential":"secret-of-%s"}' the-machine >"$DUMONT_STATE_DIR/credential.json"
  echo 'joined the workspace demo'
}
say() { printf '{"event":"%s","version":"%s"}\\n' "$1" "$version" >&2; }
run() {
  trap 'kill "$nap"; wait "$nap"; exit 0' TERM
  trap 'kill "$nap"; wait "$nap"; exit 75' HUP
  say starting
  (umask 077 && env >"$DUMONT_STATE_DIR/seen-environment")
  umask >"$DUMONT_STATE_DIR/seen-umask"
  [ "$conduct" = crashes ] && exit 1
  [ "$conduct" = is-refused ] && exit 77
  if [ "$conduct" = connects ]; then
    rm -f "$DUMONT_STATE_DIR/upgrade.pending" "$DUMONT_STATE_DIR/upgrade.failed"
    say welcomed
  fi
  while :; do
    if [ -e "$DUMONT_STATE_DIR/chatter" ]; then head -c 3000 /dev/zero | tr '\\0' x >&2; echo >&2; fi
    if [ -e "$DUMONT_STATE_DIR/end-with" ]; then code=$(cat "$DUMONT_STATE_DIR/end-with"); rm "$DUMONT_STATE_DIR/end-with"; exit "$code"; fi
    sleep 0.1 & nap=$!
    wait "$nap"
  done
}
case $1 in
  --version) ${versionCommand ?? 'echo "dumont-agent $version"'} ;;
  host-files) host_files "$2" ;;
  enrol) enrol ;;
  run) run ;;
  *) exit 2 ;;
esac
`;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
