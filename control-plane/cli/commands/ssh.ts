import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Argument, Command } from 'commander';
import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';
import type { Cli, CommandHost } from '../cli.ts';

export function sshCommand(host: CommandHost): Command {
  return new Command('ssh')
    .description('open a shell on the machine that serves a workspace, by its fixed address')
    .addArgument(new Argument('<workspace>', 'name or id'))
    .addArgument(new Argument('[command...]', 'options and command for ssh, after --'))
    .option('--user <name>', 'user on the machine', 'root')
    .option('--print', 'print the ssh command instead of running it')
    .action((workspace: string, rest: string[], options: { user: string; print?: boolean }) =>
      host.run((cli) => openShell(cli, workspace, { ...options, rest })),
    );
}

async function openShell(
  cli: Cli,
  idOrName: string,
  options: { readonly user: string; readonly print?: boolean; readonly rest: readonly string[] },
): Promise<number> {
  const { name, gateway } = await cli.client.call('getWorkspace', { params: { workspace: idOrName } });
  if (gateway.ssh === null) {
    throw new DumontError('UNAVAILABLE', `workspace ${name} has no SSH address`, {
      hint: 'The control plane gives one within seconds while a port of DUMONT_GATEWAY_PORTS is free.',
    });
  }
  const { host, port } = gateway.ssh;
  // One name for the host key, whatever address and port the control plane has.
  const target = ['-p', String(port), '-o', `HostKeyAlias=dumont-${name}`, `${options.user}@${host}`];
  const argv = [...target, ...options.rest];
  if (cli.json) cli.printJson({ command: ['ssh', ...argv] });
  else if (options.print === true) cli.print(['ssh', ...argv].map(quoted).join(' '));
  if (cli.json || options.print === true) return 0;
  return run(argv);
}

/** Hands the terminal to ssh. @returns its exit code */
async function run(argv: readonly string[]): Promise<number> {
  const child = spawn('ssh', argv, { stdio: 'inherit' });
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    return code ?? 1;
  } catch (error) {
    if (systemErrorCode(error) !== 'ENOENT') throw error;
    throw new DumontError('UNSUPPORTED', 'there is no ssh on this computer', {
      hint: 'Install an SSH client, or use --print and connect by other means.',
      cause: error,
    });
  }
}

/** A word as a POSIX shell reads it back. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}
