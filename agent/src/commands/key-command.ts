import { DumontError } from '@dumont/shared/util/errors.ts';
import { addPassword, removeKey, rotatePassword, type KeyChange, type NewPassword } from '../secrets/key-admin.ts';
import { MAX_LABEL_LENGTH, type NewKey } from '../secrets/key-object.ts';
import { listKeys, type StoredKey } from '../secrets/key-store.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { FlagSpec, ParsedArguments } from './arguments.ts';
import {
  EXIT,
  HELP_FLAG,
  JSON_FLAG,
  openNamedStore,
  STORE_HELP,
  type Command,
  type CommandContext,
  type CommandResult,
} from './command.ts';
import { NEW_PASSWORD_FILE_FLAG, newPasswordOf, PASSWORD_FILE_FLAG, passwordOf } from './password.ts';

const LABEL_FLAG: FlagSpec = { value: 'text', help: 'What to call the new key; stored in clear.' };

/** `key list|add|remove|rotate --store <store>` */
export const keyCommand: Command = {
  spec: {
    name: 'key',
    positionals: ['list|add|remove|rotate'],
    summary: 'Shows and changes the passwords of an encrypted store.',
    flags: {
      store: { value: 'store', required: true, help: STORE_HELP },
      id: { value: 'id', help: 'The key to remove.' },
      label: LABEL_FLAG,
      'password-file': PASSWORD_FILE_FLAG,
      'new-password-file': NEW_PASSWORD_FILE_FLAG,
      json: JSON_FLAG,
      help: HELP_FLAG,
    },
  },
  async run(args, context) {
    const action = args.positionals[0] ?? '';
    await using store = await openNamedStore(args.required('store'));
    const options = { signal: context.signal };
    if (action === 'list') return show(await listKeys(store, options));
    const change = await perform(store, { action, args, context }, options);
    return {
      json: { kind: 'changed', ...change },
      text: [
        ...change.added.map((id) => `added ${id}`),
        ...change.removed.map((id) => `removed ${id}`),
        ...(change.added.length + change.removed.length === 0 ? ['nothing to change'] : []),
      ].join('\n'),
      exitCode: EXIT.done,
    };
  },
};

interface KeyRequest {
  readonly action: string;
  readonly args: ParsedArguments;
  readonly context: CommandContext;
}

async function perform(store: ObjectStore, request: KeyRequest, options: CallOptions): Promise<KeyChange> {
  const { action, args } = request;
  switch (action) {
    case 'add':
      return addPassword(store, await passwordNeeded(args), await newPassword(request), options);
    case 'rotate':
      return rotatePassword(store, await passwordNeeded(args), await newPassword(request), options);
    case 'remove': {
      const keyId = args.text('id');
      if (keyId !== undefined) return removeKey(store, await passwordNeeded(args), keyId, options);
      throw new DumontError('USAGE', 'key remove needs --id <id>', {
        field: 'id',
        hint: 'See the ids with: dumont-agent key list',
      });
    }
    default:
      throw new DumontError('USAGE', `there is no key command ${JSON.stringify(action)}`, {
        hint: 'Commands: list, add, remove, rotate',
      });
  }
}

async function passwordNeeded(args: ParsedArguments): Promise<string> {
  const password = await passwordOf(args);
  if (password !== null) return password;
  throw new DumontError('UNAUTHORIZED', 'changing keys needs a password that opens the store', {
    hint: 'Set SNAPSHOT_PASSWORD, or name a file with --password-file.',
  });
}

async function newPassword({ args, context }: KeyRequest): Promise<NewPassword> {
  const label = args.text('label') ?? '';
  if (label.length > MAX_LABEL_LENGTH) {
    throw new DumontError('USAGE', `a label has at most ${MAX_LABEL_LENGTH} characters`, { field: 'label' });
  }
  const key: NewKey = { createdAtMs: context.clock.nowMs(), label };
  return { password: await newPasswordOf(args), key };
}

function show(keys: readonly StoredKey[]): CommandResult {
  const json = keys.map(({ keyId, object, damage }) =>
    object === null
      ? { keyId, damage: damage.message }
      : { keyId, masterId: object.masterId, createdAtMs: object.createdAtMs, label: object.label },
  );
  return {
    json: { keys: json },
    text: keys.length === 0 ? 'the store is not encrypted' : keys.map(row).join('\n'),
    exitCode: EXIT.done,
  };
}

/** Labels are shown without control characters, which could drive a terminal. */
function row({ keyId, object, damage }: StoredKey): string {
  if (object === null) return `${keyId}  damaged: ${damage.message}`;
  const made = new Date(object.createdAtMs).toISOString();
  return `${keyId}  made ${made}  master ${object.masterId}  ${object.label.replaceAll(/\p{Cc}/gu, '\uFFFD')}`.trimEnd();
}
