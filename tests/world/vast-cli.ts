import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** The vendor's own client, to check that our simulator and our adapter do not share one mistake. */
const CLIENT = 'vastai==1.9.1';
/** Kept between runs: installing takes half a minute. */
const FOLDER = join(tmpdir(), 'dumont-oracles', 'vastai-1.9.1');
const BIN = join(FOLDER, 'bin', 'vastai');
const INSTALL_TIMEOUT_MS = 240_000;
const CALL_TIMEOUT_MS = 30_000;

/** Why the client cannot run here; undefined when it can, or may be installed. Installs nothing. */
export function vastCliObstacle(): string | undefined {
  if (!existsSync('/usr/sbin/sshd')) return 'there is no sshd for the machines';
  if (process.env['DUMONT_ORACLES'] === 'off') return 'DUMONT_ORACLES=off';
  if (existsSync(BIN)) return undefined;
  const probe = spawnSync('python3', ['-c', 'import venv, ensurepip'], { stdio: 'ignore' });
  return probe.status === 0 ? undefined : 'there is no python3 with venv to install it';
}

/** Installs the client unless it is there. @returns false when it cannot be had, as without a network */
export async function installVastCli(): Promise<boolean> {
  if (existsSync(BIN)) return true;
  const options = { timeout: INSTALL_TIMEOUT_MS };
  try {
    await mkdir(FOLDER, { recursive: true });
    await promisify(execFile)('python3', ['-m', 'venv', FOLDER], options);
    await promisify(execFile)(join(FOLDER, 'bin', 'pip'), ['install', '--quiet', CLIENT], options);
    return true;
  } catch {
    await rm(FOLDER, { recursive: true, force: true });
    return false;
  }
}

export interface VastCliCall {
  readonly url: string;
  readonly apiKey: string;
  /** Its settings and caches. */
  readonly home: string;
}

/** Runs the client. @returns all that it said: its exit code is 0 whatever happened */
export async function vastCli(call: VastCliCall, args: readonly string[]): Promise<string> {
  const env = {
    PATH: process.env['PATH'] ?? '',
    HOME: call.home,
    VAST_URL: call.url,
    VAST_API_KEY: call.apiKey,
    VASTAI_NO_UPDATE_CHECK: '1',
  };
  const { stdout, stderr } = await promisify(execFile)(BIN, args, { env, timeout: CALL_TIMEOUT_MS });
  return stdout + stderr;
}
