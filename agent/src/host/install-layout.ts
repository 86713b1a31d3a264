import { join } from 'node:path';

/** Where an installed agent keeps what. */
export interface InstallLayout {
  /** Versions of the program, and `current`, a link to one of them. */
  readonly prefix: string;
  readonly configDir: string;
  /** The agent's environment, readable by its owner only. */
  readonly envFile: string;
  readonly stateDir: string;
  /** The name in the PATH. */
  readonly link: string;
}

/** The layout for root, or for another user below their home. Pure. */
export function installLayout(who: { readonly isRoot: boolean; readonly home: string }): InstallLayout {
  const { isRoot, home } = who;
  const configDir = isRoot ? '/etc/dumont-agent' : join(home, '.config/dumont-agent');
  return {
    prefix: isRoot ? '/opt/dumont-agent' : join(home, '.local/share/dumont-agent'),
    configDir,
    envFile: join(configDir, 'agent.env'),
    stateDir: isRoot ? '/var/lib/dumont-agent' : join(home, '.local/state/dumont-agent'),
    link: isRoot ? '/usr/local/bin/dumont-agent' : join(home, '.local/bin/dumont-agent'),
  };
}
