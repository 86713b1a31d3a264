import { chmod, mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { enrolAnswerSchema, type EnrolAnswer } from '@dumont/shared/api/endpoints.ts';
import { credentialSchema, wallMsSchema } from '@dumont/shared/protocol/primitives.ts';
import { DumontError, systemErrorCode, toDumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';
import { writeFileAtomic } from '../host/write-file-atomic.ts';

/** Who this agent is to its control plane. */
export type Identity = EnrolAnswer;

const credentialRecordSchema = z.object({
  /** Whom the credential is for: it is never shown to anybody else. */
  controlUrl: z.url(),
  /** Hex SHA-256 of the one-time token it was, or is being, enrolled with. */
  tokenHash: z.string().regex(/^[0-9a-f]{64}$/),
  credential: credentialSchema,
  /** Proposed to the control plane, which may know it by now; null when none is on its way. */
  next: credentialSchema.nullable(),
  /** When `credential` was drawn, wall ms. */
  sinceMs: wallMsSchema,
  /** Null until the control plane has answered. */
  identity: enrolAnswerSchema.nullable(),
  /** The machine was given back: this identity is over. */
  isReleased: z.boolean(),
});
export type CredentialRecord = z.infer<typeof credentialRecordSchema>;

/** Where the credential lies in a state directory. */
export function credentialPath(stateDir: string): string {
  return join(stateDir, 'credential.json');
}

/** The agent's secret on disk, readable by its user alone, replaced as a whole. One process at a time may own it. */
export class CredentialFile {
  readonly path: string;
  #record: CredentialRecord | null;

  private constructor(path: string, record: CredentialRecord | null) {
    this.path = path;
    this.#record = record;
  }

  /**
   * @throws {DumontError} IO when it exists but cannot be read or its folder cannot be made, CORRUPT when it cannot be
   *   understood: it is not overwritten, because the identity in it may be the only one
   */
  static async open(path: string): Promise<CredentialFile> {
    try {
      await mkdir(dirname(path), { recursive: true });
      const text = await readFile(path, 'utf8');
      if (((await stat(path)).mode & 0o077) !== 0) await chmod(path, 0o600);
      return new CredentialFile(path, parseRecord(path, text));
    } catch (error) {
      if (systemErrorCode(error) === 'ENOENT') return new CredentialFile(path, null);
      throw toDumontError(error, 'IO', `reading ${path}`);
    }
  }

  /** Null before the first enrolment was begun. */
  get record(): CredentialRecord | null {
    return this.#record;
  }

  /** Durable when it resolves; on a failure the former record still counts. @throws {DumontError} IO */
  async write(record: CredentialRecord): Promise<void> {
    await writeFileAtomic(this.path, `${JSON.stringify(record, undefined, 2)}\n`);
    this.#record = record;
  }

  /** The identity is over; a new token may take its place. @throws {DumontError} IO */
  async markReleased(): Promise<void> {
    if (this.#record !== null && !this.#record.isReleased) await this.write({ ...this.#record, isReleased: true });
  }
}

function parseRecord(path: string, text: string): CredentialRecord {
  const parsed = credentialRecordSchema.safeParse(tryParseJson(text));
  if (parsed.success) return parsed.data;
  // The parser's words may quote the file, and so the secret.
  throw new DumontError('CORRUPT', `${path} is not a credential of an agent`, {
    hint: 'Bring it back from a copy, or remove it and enrol with a new token.',
  });
}
