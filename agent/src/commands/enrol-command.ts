import { systemRandom } from '@dumont/shared/util/random.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { readAgentConfig } from '../config.ts';
import { CredentialFile, credentialPath, type Identity } from '../identity/credential-file.ts';
import { join } from '../identity/join.ts';
import type { ParsedArguments } from './arguments.ts';
import { EXIT, HELP_FLAG, JSON_FLAG, type Command, type CommandContext, type CommandResult } from './command.ts';

/** A person or an installer waits: longer than a control plane takes to restart. */
const PATIENCE_MS = 30_000;

export const enrolCommand: Command = {
  spec: {
    name: 'enrol',
    positionals: [],
    summary: 'Join a control plane: DUMONT_CONTROL_URL, with the one-time token DUMONT_ENROL_TOKEN.',
    flags: { json: JSON_FLAG, help: HELP_FLAG },
  },
  run: runEnrol,
};

/** There is no flag for the token: `ps` shows those to everybody. */
async function runEnrol(_args: ParsedArguments, context: CommandContext): Promise<CommandResult> {
  const config = readAgentConfig(process.env);
  const { clock, signal } = context;
  const { controlUrl, stateDir, secrets } = config;
  const file = await CredentialFile.open(credentialPath(stateDir));
  const membership = await join(
    { file, controlUrl, enrolToken: secrets.enrolToken, clock, random: systemRandom, onRetry: () => {} },
    { patienceMs: PATIENCE_MS, signal },
  );
  const { identity } = membership;
  if (membership.kind === 'released') throw releasedError(identity, file.path);
  if (membership.isOtherToken) throw memberError(identity, file.path);
  const isNew = membership.kind === 'joined';
  const { instanceId, role, workspaceId } = identity;
  const verb = isNew ? 'Joined' : 'Already joined';
  return {
    json: { instanceId, role, workspaceId, controlUrl, enrolled: isNew ? 'now' : 'before' },
    text: `${verb} ${controlUrl} as ${instanceId} (${role} of workspace ${workspaceId}).`,
    exitCode: EXIT.done,
  };
}

function memberError(identity: Identity, path: string): DumontError {
  return new DumontError('CONFLICT', `this machine is ${identity.instanceId} already (${path}); the token is another`, {
    field: 'DUMONT_ENROL_TOKEN',
    hint: `To join anew, give the machine back (dumont machines stop ${identity.instanceId}) or remove the file.`,
  });
}

function releasedError(identity: Identity, path: string): DumontError {
  return new DumontError('CONFLICT', `this machine was ${identity.instanceId}, which was given back (${path})`, {
    field: 'DUMONT_ENROL_TOKEN',
    hint: 'Join anew with a new token: dumont machines add --workspace NAME',
  });
}
