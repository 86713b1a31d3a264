import { homedir } from 'node:os';

/** This user's home; the root of the file system for a user without one, as containers have it for unknown users. */
export function homeFolder(): string {
  try {
    return homedir();
  } catch {
    // Neither HOME nor an entry in /etc/passwd.
    return '/';
  }
}
