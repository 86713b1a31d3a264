import { getAttributeSync, listAttributesSync } from '@napi-rs/xattr';
import type { Xattrs } from '@dumont/shared/format/manifest.ts';

/** What a tree means by itself; the rest, such as SELinux labels, belongs to the machine. */
const KEPT = /^(?:user\.|system\.posix_acl_(?:access|default)$|security\.capability$)/;

/**
 * The extended attributes of a file or folder that a snapshot keeps, ascending by name; undefined when there are none. A
 * symlink in its place is not followed. What cannot be read, on a filesystem without attributes or because the file
 * vanished, counts as none.
 * @param path absolute
 */
export function readXattrs(path: string): Xattrs | undefined {
  const found: (readonly [string, string])[] = [];
  try {
    for (const name of listAttributesSync(path)) {
      const value = KEPT.test(name) ? getAttributeSync(path, name) : null;
      if (value !== null) found.push([name, value.toString('base64')]);
    }
  } catch {
    // The module tells no error code. Attributes that may be listed may be read, so little else than the above is left.
    return undefined;
  }
  return found.length === 0 ? undefined : found.sort(([a], [b]) => (a < b ? -1 : 1));
}
