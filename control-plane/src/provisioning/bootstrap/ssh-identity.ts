import ssh2 from 'ssh2';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Database } from '../../store/database.ts';
import { ensureSetting } from '../../store/settings.ts';

/** The installation's own SSH key: what it logs in to rented machines with. */
export interface SshIdentity {
  /** OpenSSH format; a secret. */
  readonly privateKey: string;
  /** One line, as in `authorized_keys`. */
  readonly publicKey: string;
}

const SETTING = 'ssh-identity';
const COMMENT = 'dumont-control-plane';

/**
 * The key of this installation, drawn the first time; every control plane on the database has the same.
 * @throws {DumontError} CORRUPT when what is stored is no key
 */
export async function ensureSshIdentity(db: Database): Promise<SshIdentity> {
  const draw = () => ssh2.utils.generateKeyPairSync('ed25519', { comment: COMMENT }).private;
  const privateKey = await ensureSetting(db, SETTING, draw);
  const parsed = ssh2.utils.parseKey(privateKey);
  if (parsed instanceof Error) {
    throw new DumontError('CORRUPT', `the stored SSH key cannot be read: ${parsed.message}`, {
      hint: `Delete the setting "${SETTING}" from the database: another is drawn.`,
      cause: parsed,
    });
  }
  const publicKey = `${parsed.type} ${parsed.getPublicSSH().toString('base64')} ${COMMENT}`;
  return { privateKey, publicKey };
}
