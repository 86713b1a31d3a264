import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** Where this user's programs keep what they can do without: `$XDG_CACHE_HOME/dumont`, else `~/.cache/dumont`. */
export function cacheFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const base = environment['XDG_CACHE_HOME'] ?? '';
  return join(isAbsolute(base) ? base : join(homeFolder(), '.cache'), 'dumont');
}

/** A container may have neither HOME nor an entry for its user; such a user's home is the root, by convention. */
function homeFolder(): string {
  try {
    return homedir();
  } catch {
    return '/';
  }
}
