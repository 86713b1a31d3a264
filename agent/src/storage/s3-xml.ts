import type { ObjectInfo } from './object-store.ts';

/** A page of ListObjectsV2. */
export interface ListingPage {
  readonly objects: readonly ObjectInfo[];
  /** Where the next page begins; undefined at the end. */
  readonly next: string | undefined;
}

/** Reads the answer to ListObjectsV2: no nesting below `Contents`, no attributes, so that no parser is needed. Pure. */
export function parseListing(xml: string): ListingPage {
  const objects = [...xml.matchAll(/<Contents>(.*?)<\/Contents>/gs)].map(([, fields = '']) => ({
    key: elementText(fields, 'Key') ?? '',
    sizeBytes: Number(elementText(fields, 'Size') ?? 0),
    modifiedMs: Date.parse(elementText(fields, 'LastModified') ?? '') || 0,
  }));
  const isTruncated = elementText(xml, 'IsTruncated') === 'true';
  return { objects, next: isTruncated ? elementText(xml, 'NextContinuationToken') : undefined };
}

/** The text of the first element of that name. */
export function elementText(xml: string, name: string): string | undefined {
  const found = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1];
  return found?.replaceAll(/&(?:lt|gt|quot|apos|amp|#x?[0-9a-fA-F]+);/g, unescapeEntity);
}

const NAMED: Readonly<Record<string, string>> = {
  '&lt;': '<',
  '&gt;': '>',
  '&quot;': '"',
  '&apos;': "'",
  '&amp;': '&',
};

function unescapeEntity(entity: string): string {
  const named = NAMED[entity];
  if (named !== undefined) return named;
  const code = entity.startsWith('&#x') ? Number.parseInt(entity.slice(3), 16) : Number.parseInt(entity.slice(2), 10);
  return code <= 0x10ffff ? String.fromCodePoint(code) : '\uFFFD';
}
