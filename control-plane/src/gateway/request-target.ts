/** What a request line and Host header ask the gateway for. */
export type RequestTarget =
  /** Not for a workspace: the control plane's own. */
  | { readonly kind: 'elsewhere' }
  | { readonly kind: 'bad'; readonly reason: string }
  /** The address without its last slash, from which relative links would lead astray. */
  | { readonly kind: 'slash'; readonly location: string }
  | {
      readonly kind: 'workspace';
      /** Name or id, as in the path; in lower case when it is from the host name. */
      readonly name: string;
      readonly by: 'path' | 'host';
      /** What the workload is asked for: path and query, byte for byte as the user sent it. */
      readonly path: string;
      /** What the user's path has in front of it: `/w/<workspace>`, or nothing by host name. */
      readonly prefix: string;
    };

const BY_PATH = /^\/w\/([A-Za-z0-9][A-Za-z0-9._-]{0,62})(?=[/?]|$)(.*)$/s;

/**
 * Reads where a request goes. Pure. Nothing is decoded or normalised on the way: what is not plainly a workspace's
 * address is left to the control plane, and a path that climbs is refused, so neither can be taken for the other.
 */
export function readTarget(
  url: string,
  options: { readonly host: string | undefined; readonly domain: string | undefined },
): RequestTarget {
  const label = labelOf(options.host, options.domain);
  if (label !== null) {
    if (!url.startsWith('/')) return { kind: 'bad', reason: 'the request target must be a path' };
    return climbs(url) ? CLIMBING : { kind: 'workspace', name: label, by: 'host', path: url, prefix: '' };
  }
  if (!/^\/w(?:[/?]|$)/.test(url)) return { kind: 'elsewhere' };
  const match = BY_PATH.exec(url);
  if (match === null) return { kind: 'bad', reason: 'a workspace address looks like /w/<workspace>/' };
  const [, name = '', path = ''] = match;
  if (climbs(path)) return CLIMBING;
  const prefix = `/w/${name}`;
  if (!path.startsWith('/')) return { kind: 'slash', location: `${prefix}/${path}` };
  return { kind: 'workspace', name, by: 'path', path, prefix };
}

const CLIMBING = { kind: 'bad', reason: 'the path contains ".." or a NUL' } as const;

/** True when a path, however it may be decoded later, could mean something outside its beginning. */
function climbs(url: string): boolean {
  const path = (url.split(/[?#]/, 1)[0] ?? '').replaceAll(/%2e/gi, '.').replaceAll(/%2f|%5c|\\/gi, '/');
  return path.split('/').includes('..') || /%00/.test(url);
}

/** What stands before the gateway's domain in a Host header, in lower case; null when that is not its domain. */
function labelOf(host: string | undefined, domain: string | undefined): string | null {
  if (host === undefined || domain === undefined) return null;
  const name = host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
  const label = name.endsWith(`.${domain}`) ? name.slice(0, -domain.length - 1) : '';
  return /^[a-z0-9][a-z0-9._-]{0,62}$/.test(label) ? label : null;
}
