import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import { z } from 'zod';

/** Transformers writes it last, after the weights and the state of the optimizer. */
const LAST_WRITTEN = 'trainer_state.json';
/** Says in which file each tensor of a model lies that was split. */
const SHARD_INDEX = /\.(?:safetensors|bin)\.index\.json$/;
const MAX_INDEX_BYTES = 16_777_216;

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string().max(1_024)) });

/**
 * What a folder of whole files lacks of a whole checkpoint; null when nothing is known to be missing.
 * @param folders all such folders of the workspace, relative to `root` like `path`
 */
export function whyFolderIncomplete(root: string, path: string, folders: readonly string[]): string | null {
  const missing = missingShard(`${root}/${path}`);
  if (missing !== null) return missing;
  if (existsSync(`${root}/${path}/${LAST_WRITTEN}`)) return null;
  const sibling = folders.find(
    (other) => other !== path && dirname(other) === dirname(path) && existsSync(`${root}/${other}/${LAST_WRITTEN}`),
  );
  return sibling === undefined ? null : `it lacks ${LAST_WRITTEN}, which ${sibling} has`;
}

function missingShard(folder: string): string | null {
  for (const name of readdirSync(folder).filter((one) => SHARD_INDEX.test(one))) {
    const path = `${folder}/${name}`;
    if (statSync(path).size > MAX_INDEX_BYTES) continue;
    const index = indexSchema.safeParse(tryParseJson(readFileSync(path, 'utf8')));
    if (!index.success) return `${name} cannot be read`;
    const missing = [...new Set(Object.values(index.data.weight_map))].find((file) => !existsSync(`${folder}/${file}`));
    if (missing !== undefined) return `${missing} is missing, which ${name} names`;
  }
  return null;
}
