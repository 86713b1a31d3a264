import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from '@dumont/shared/node/logger.ts';
import type { Clock } from '@dumont/shared/util/clock.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import type { Random } from '@dumont/shared/util/random.ts';
import { VastApi } from './vast-api.ts';
import { isLoopback } from './vast-orders.ts';
import { VastProvider } from './vast-provider.ts';

export interface VastSettings {
  readonly apiKey: string;
  readonly url: string;
  readonly image: string;
  readonly diskGb: number;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Logger;
}

const ONSTART_SCRIPT = join(import.meta.dirname, '..', '..', '..', '..', 'install', 'vast-onstart.sh');

/** What Vast takes as a start script. */
const MAX_ONSTART_CHARACTERS = 4_048;

/**
 * Vast.ai as a provider, with the start script of this checkout. A service on this computer's loopback can only be a
 * simulator, whose machines are here too.
 * @throws {DumontError} IO when the script cannot be read
 */
export async function openVast(settings: VastSettings): Promise<VastProvider> {
  const { apiKey, url: baseUrl, clock, random } = settings;
  const api = new VastApi({ apiKey, baseUrl, clock, random });
  const isLocal = isLoopback(new URL(baseUrl).hostname);
  return new VastProvider({ ...settings, api, onstart: await readOnstart(), isLocal });
}

async function readOnstart(): Promise<string> {
  let text: string;
  try {
    text = await readFile(ONSTART_SCRIPT, 'utf8');
  } catch (error) {
    throw new DumontError('IO', `cannot read ${ONSTART_SCRIPT}`, { cause: error });
  }
  if (text.length <= MAX_ONSTART_CHARACTERS) return text;
  throw new DumontError(
    'LIMIT',
    `${ONSTART_SCRIPT} is longer than the ${MAX_ONSTART_CHARACTERS} characters Vast.ai takes`,
  );
}
