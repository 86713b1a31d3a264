import type { Clock } from '@dumont/shared/util/clock.ts';
import { homeFolder } from '../host/home-folder.ts';
import { installLayout, type InstallLayout } from '../host/install-layout.ts';
import { ControlPath } from './control-path.ts';
import { findContainer, type Container } from './container.ts';
import { readEnvFile, type EnvFile } from './env-file.ts';
import { tourWorkspace, type Tour } from './tour.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What the doctor examines, and what several checks need to know, found out once. */
export interface Situation {
  readonly clock: Clock;
  readonly layout: InstallLayout;
  readonly envFile: EnvFile;
  /** The shell's variables over the installed agent's. */
  readonly environment: Environment;
  /** Variables of the agent that this shell sets to something else than the installed agent has. */
  readonly overridden: readonly string[];
  /** True when anything says that an agent is meant to run here: then what it needs must be there. */
  readonly isConfigured: boolean;
  readonly workspaceDir: string;
  readonly stateDir: string;
  readonly nvidiaSmi: string;
  /** The store named by `--to`; null without. */
  readonly storeUrl: string | null;
  readonly container: Container | null;
  readonly control: ControlPath;
  readonly tour: () => Promise<Tour>;
}

export interface SituationOptions {
  readonly environment: Environment;
  readonly storeUrl: string | null;
  readonly clock: Clock;
  /** Where an installed agent would be; by default where this user's or root's would. */
  readonly layout?: InstallLayout;
}

/** Looks around. Never throws for what it finds or does not find. */
export async function readSituation(options: SituationOptions): Promise<Situation> {
  const { clock, storeUrl } = options;
  const layout = options.layout ?? (await layoutHere());
  const envFile = await readEnvFile(layout.envFile);
  const installed: Environment = envFile.kind === 'read' ? envFile.variables : {};
  const given = Object.fromEntries(Object.entries(options.environment).filter(([, value]) => (value ?? '') !== ''));
  const environment: Environment = { ...installed, ...given };
  const value = (name: string) => ((environment[name] ?? '') === '' ? undefined : environment[name]);
  const workspaceDir = value('DUMONT_WORKSPACE_DIR') ?? '/workspace';
  let tour: Promise<Tour> | undefined;
  return {
    clock,
    layout,
    envFile,
    environment,
    overridden: Object.keys(installed).filter((name) => given[name] !== undefined && given[name] !== installed[name]),
    isConfigured: envFile.kind !== 'absent' || value('DUMONT_CONTROL_URL') !== undefined,
    workspaceDir,
    stateDir: value('DUMONT_STATE_DIR') ?? layout.stateDir,
    nvidiaSmi: value('DUMONT_NVIDIA_SMI') ?? 'nvidia-smi',
    storeUrl,
    container: await findContainer(environment),
    control: new ControlPath(value('DUMONT_CONTROL_URL'), clock),
    tour: () => (tour ??= tourWorkspace(workspaceDir, clock)),
  };
}

/** Root's layout for root, and for another user who has installed nothing where root has. */
async function layoutHere(): Promise<InstallLayout> {
  const isRoot = process.getuid?.() === 0;
  const mine = installLayout({ isRoot, home: homeFolder() });
  if (isRoot || (await readEnvFile(mine.envFile)).kind !== 'absent') return mine;
  const roots = installLayout({ isRoot: true, home: '/root' });
  return (await readEnvFile(roots.envFile)).kind === 'absent' ? mine : roots;
}
