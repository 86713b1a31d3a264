import { isAbsolute, join } from 'node:path';
import { homeFolder } from './home-folder.ts';

/** Where this user's programs keep what they can do without: `$XDG_CACHE_HOME/dumont`, else `~/.cache/dumont`. */
export function cacheFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const base = environment['XDG_CACHE_HOME'] ?? '';
  return join(isAbsolute(base) ? base : join(homeFolder(), '.cache'), 'dumont');
}
