import { createHash, randomUUID } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import { z } from 'zod';

/**
 * Where one machine keeps what. Everything about a machine is in its folder, so that any process with the same root
 * sees and controls it; the folder's existence is the machine's existence.
 */
export interface MachinePaths {
  readonly folder: string;
  readonly record: string;
  /** Who runs the machine: claimed once by its host process. */
  readonly leader: string;
  readonly status: string;
  readonly disk: string;
  /** The machine's /workspace. */
  readonly workspace: string;
  /** The agent's own state. */
  readonly state: string;
  /** Symbolic link to the file store, while the machine has a network. */
  readonly mount: string;
  readonly hostLog: string;
  readonly agentLog: string;
  /** What the provider says of the machine instead of the truth. */
  readonly claim: string;
  mark(name: MarkName): string;
}

/**
 * Things that happened to a machine from outside: a file each, holding since when.
 * `destroyed` its end was asked for, `killed` its host took it away, `frozen` it is stopped, `cut` it has no network.
 */
export const MARK_NAMES = ['destroyed', 'killed', 'frozen', 'cut'] as const;
export type MarkName = (typeof MARK_NAMES)[number];

const recordSchema = z.object({
  ref: z.string(),
  label: z.string(),
  offer: z.object({
    provider: z.string(),
    offerId: z.string(),
    machineId: z.string(),
    gpuName: z.string(),
    gpuCount: z.number(),
    diskGb: z.number(),
    priceMicroUsdPerHour: z.number(),
    reliability: z.number(),
    region: z.string(),
    kind: z.enum(['spot', 'on-demand']),
  }),
  createdAtMs: z.number(),
  bootMs: z.number(),
  /** False for a machine that hangs in `loading` for ever. */
  boots: z.boolean(),
  agentCommand: z.array(z.string()).min(1),
  agentEnvironment: z.record(z.string(), z.string()),
  /** Ports of the workload that the machine's network opens to the outside. */
  ports: z.array(z.int()).default([]),
});
/** What was ordered; written once, before the machine is visible. */
export type MachineRecord = z.infer<typeof recordSchema>;

const leaderSchema = z.object({ pid: z.int().positive(), startedAt: z.string() });
const statusSchema = z.object({
  phase: z.enum(['loading', 'running']),
  probePort: z.int().nullable(),
  /** Where the machine's SSH server is reached. */
  sshPort: z.int().nullable().default(null),
  /** Outer ports by inner ones: `[inner, outer]`. */
  ports: z.array(z.tuple([z.int(), z.int()])).default([]),
  network: z.enum(['up', 'cut']),
});
/** The host process's own account of the machine, replaced atomically. */
export type HostStatus = z.infer<typeof statusSchema>;
type HostStatusInput = z.input<typeof statusSchema>;

const markSchema = z.object({ sinceMs: z.number() });

const claimSchema = z.object({ says: z.enum(['running', 'gone']) });
/** A provider that is wrong about a machine: its books lag behind what its hosts do. */
export type Claim = z.infer<typeof claimSchema>['says'];

/** Machine folders live here, by reference. */
export function machinesFolder(root: string): string {
  return join(root, 'machines');
}

/** The layout of one machine's folder. Pure. */
export function machinePaths(folder: string): MachinePaths {
  const disk = join(folder, 'disk');
  return {
    folder,
    record: join(folder, 'machine.json'),
    leader: join(folder, 'leader.json'),
    status: join(folder, 'status.json'),
    disk,
    workspace: join(disk, 'workspace'),
    state: join(disk, 'state'),
    mount: join(folder, 'mnt', 'store'),
    hostLog: join(folder, 'logs', 'host.log'),
    agentLog: join(folder, 'logs', 'agent.log'),
    claim: join(folder, 'claim.json'),
    mark: (name) => join(folder, `${name}.json`),
  };
}

/**
 * The reference of the machine with this label: derived, so that asking twice cannot give two machines, and different
 * under every root, because references also mark processes.
 */
export function refForLabel(root: string, label: string): string {
  const hash = createHash('sha256')
    .update(`${resolve(root)}\0${label}`)
    .digest('hex');
  return `lm-${hash.slice(0, 20)}`;
}

/** Paths of the machine with this reference; null when the text cannot be one of ours. */
export function pathsForRef(root: string, ref: string): MachinePaths | null {
  return /^lm-[0-9a-f]{20}$/.test(ref) ? machinePaths(join(machinesFolder(root), ref)) : null;
}

/** What was ordered; null when there is no such machine. All readers throw DumontError CORRUPT for foreign content. */
export function readRecord(paths: MachinePaths): Promise<MachineRecord | null> {
  return readJson(paths.record, recordSchema);
}

/** The host process that claimed the machine; null before. It may be dead by now. */
export function readLeader(paths: MachinePaths): Promise<z.infer<typeof leaderSchema> | null> {
  return readJson(paths.leader, leaderSchema);
}

/** The host's last account; null before its first. */
export function readStatus(paths: MachinePaths): Promise<HostStatus | null> {
  return readJson(paths.status, statusSchema);
}

/** Replaces the account in one step. */
export async function writeStatus(paths: MachinePaths, status: HostStatusInput): Promise<void> {
  await writeJson(paths.status, status);
}

/** Since when the mark has stood, wall ms; null when it does not. */
export async function readMark(paths: MachinePaths, name: MarkName): Promise<number | null> {
  return (await readJson(paths.mark(name), markSchema))?.sinceMs ?? null;
}

/** Sets a mark; an earlier one stays as it is. */
export async function setMark(paths: MachinePaths, name: MarkName, sinceMs: number): Promise<void> {
  await writeJsonOnce(paths.mark(name), { sinceMs });
}

/** Takes a mark back; nothing happens when it does not stand. */
export async function clearMark(paths: MachinePaths, name: MarkName): Promise<void> {
  await rm(paths.mark(name), { force: true });
}

/** What the provider says of the machine whatever is true; null while it says what is true. */
export async function readClaim(paths: MachinePaths): Promise<Claim | null> {
  return (await readJson(paths.claim, claimSchema))?.says ?? null;
}

/** Replaces what the provider says; null: the truth again. */
export async function writeClaim(paths: MachinePaths, says: Claim | null): Promise<void> {
  if (says === null) await rm(paths.claim, { force: true });
  else await writeJson(paths.claim, { says });
}

/** Writes the JSON under a name that must be free. @returns false when the name is taken; nothing changed then */
export async function writeJsonOnce(path: string, value: unknown): Promise<boolean> {
  const draft = await writeDraft(path, value);
  try {
    await link(draft, path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/** Moves a file or folder out of sight in one step, then deletes it; success when it is not there. */
export async function discard(root: string, path: string): Promise<void> {
  const trash = join(root, 'trash');
  await mkdir(trash, { recursive: true });
  const grave = join(trash, randomUUID());
  try {
    await rename(path, grave);
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return;
    throw error;
  }
  await rm(grave, { recursive: true, force: true });
}

async function writeJson(path: string, value: unknown): Promise<void> {
  const draft = await writeDraft(path, value);
  await rename(draft, path);
}

/** Not synced: a simulated machine does not outlive a crash of the computer anyway. */
async function writeDraft(path: string, value: unknown): Promise<string> {
  const draft = join(dirname(path), `.${randomUUID()}.draft`);
  await writeFile(draft, JSON.stringify(value), { mode: 0o600 });
  return draft;
}

async function readJson<Schema extends z.ZodType>(path: string, schema: Schema): Promise<z.infer<Schema> | null> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return null;
    throw error;
  }
  const parsed = schema.safeParse(parseJson(path, text));
  if (parsed.success) return parsed.data;
  throw new DumontError('CORRUPT', `${path} is not what this version writes: ${describeIssues(parsed.error).summary}`);
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new DumontError('CORRUPT', `${path} is not JSON`, { cause: error });
  }
}
