/** Who keeps the objects. `minio` stands for every S3 server of one's own, known or not. */
export const STORAGE_PROVIDERS = ['file', 'b2', 'r2', 's3', 'wasabi', 'minio'] as const;
export type StorageProviderName = (typeof STORAGE_PROVIDERS)[number];

/** Providers that speak S3. */
export const BUCKET_PROVIDERS = ['b2', 'r2', 's3', 'wasabi', 'minio'] as const satisfies readonly StorageProviderName[];
export type BucketProviderName = (typeof BUCKET_PROVIDERS)[number];

/**
 * What a PUT with `If-None-Match: *` is worth at a service: `yes` is refused when the key is taken, `no` is not
 * understood, `unproven` may be ignored in silence, so the header only counts once the service was seen to refuse.
 */
export type ConditionalPut = 'yes' | 'no' | 'unproven';

/** How one service differs from the others. Facts as of 2026-11; docs/STORAGE.md says where they come from. */
export interface StorageProfile {
  readonly name: BucketProviderName;
  readonly title: string;
  /** Host names of its endpoints; null for servers of one's own. */
  readonly hostPattern: RegExp | null;
  /** Region to sign with where neither a variable nor the endpoint says one. */
  readonly defaultRegion: string;
  readonly forcePathStyle: boolean;
  readonly conditionalPut: ConditionalPut;
  /** Over https, bodies may go without their SHA-256: TLS protects them on the way, BLAKE3 in the store. */
  readonly unsignedPayload: boolean;
  /** Most requests at a time. */
  readonly maxInFlight: number;
  /** Requests a second of one process, below the account's limit so that several machines fit; null where none is known. */
  readonly requestsPerSecond: number | null;
  /** Writes a second to the same key; null where none is known. */
  readonly writesPerKeyPerSecond: number | null;
  /** A plain delete only hides the object, which stays billed: the version has to be named. */
  readonly deletesByVersion: boolean;
}

const PROFILES: Readonly<Record<BucketProviderName, StorageProfile>> = {
  b2: {
    name: 'b2',
    title: 'Backblaze B2',
    hostPattern: /^(?:[^.]+\.)?s3\.(?<region>[a-z0-9-]+)\.backblazeb2\.com$/,
    defaultRegion: 'us-west-004',
    forcePathStyle: true,
    conditionalPut: 'no',
    unsignedPayload: false,
    maxInFlight: 32,
    requestsPerSecond: 250,
    writesPerKeyPerSecond: null,
    deletesByVersion: true,
  },
  r2: {
    name: 'r2',
    title: 'Cloudflare R2',
    hostPattern: /^(?:[^.]+\.)?[0-9a-f]{32}(?:\.[a-z]+)?\.r2\.cloudflarestorage\.com$/,
    defaultRegion: 'auto',
    forcePathStyle: true,
    conditionalPut: 'yes',
    unsignedPayload: true,
    maxInFlight: 48,
    requestsPerSecond: null,
    writesPerKeyPerSecond: 1,
    deletesByVersion: false,
  },
  s3: {
    name: 's3',
    title: 'AWS S3',
    hostPattern: /^(?:[^.]+\.)?s3(?:[.-](?:dualstack\.)?(?<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?$/,
    defaultRegion: 'us-east-1',
    forcePathStyle: false,
    conditionalPut: 'yes',
    unsignedPayload: true,
    maxInFlight: 64,
    requestsPerSecond: 3_000,
    writesPerKeyPerSecond: null,
    deletesByVersion: false,
  },
  wasabi: {
    name: 'wasabi',
    title: 'Wasabi',
    hostPattern: /^(?:[^.]+\.)?s3(?:\.(?<region>[a-z0-9-]+))?\.wasabisys\.com$/,
    defaultRegion: 'us-east-1',
    forcePathStyle: true,
    conditionalPut: 'no',
    unsignedPayload: true,
    maxInFlight: 32,
    requestsPerSecond: 100,
    writesPerKeyPerSecond: null,
    deletesByVersion: false,
  },
  minio: {
    name: 'minio',
    title: 'MinIO or another S3 server',
    hostPattern: null,
    defaultRegion: 'us-east-1',
    forcePathStyle: true,
    conditionalPut: 'unproven',
    unsignedPayload: false,
    maxInFlight: 32,
    requestsPerSecond: null,
    writesPerKeyPerSecond: null,
    deletesByVersion: false,
  },
};

/** The profile of that name. */
export function storageProfile(name: BucketProviderName): StorageProfile {
  return PROFILES[name];
}

/** Whose endpoint it is, by its host name; `minio` for one nobody is known to own. */
export function providerOfEndpoint(endpoint: string): BucketProviderName {
  const host = hostOf(endpoint);
  const isTheirs = (name: BucketProviderName) => PROFILES[name].hostPattern?.test(host) === true;
  return BUCKET_PROVIDERS.find(isTheirs) ?? 'minio';
}

/** The region an endpoint's host name carries, undefined when it carries none. */
export function regionOfEndpoint(endpoint: string): string | undefined {
  const host = hostOf(endpoint);
  const pattern = PROFILES[providerOfEndpoint(endpoint)].hostPattern;
  return pattern?.exec(host)?.groups?.['region'];
}

/** The endpoint of a provider in a region; undefined where it does not follow from the region. */
export function endpointInRegion(name: BucketProviderName, region: string): string | undefined {
  switch (name) {
    case 'b2':
      return `https://s3.${region}.backblazeb2.com`;
    case 's3':
      return `https://s3.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`;
    case 'wasabi':
      return region === 'us-east-1' ? 'https://s3.wasabisys.com' : `https://s3.${region}.wasabisys.com`;
    case 'r2':
    case 'minio':
      return undefined;
  }
}

/** The endpoint of a Cloudflare account; buckets of a jurisdiction answer at that jurisdiction's own. */
export function r2Endpoint(accountId: string, jurisdiction: string | undefined): string {
  const place = jurisdiction === undefined ? '' : `.${jurisdiction}`;
  return `https://${accountId}${place}.r2.cloudflarestorage.com`;
}

function hostOf(endpoint: string): string {
  return URL.canParse(endpoint) ? new URL(endpoint).hostname.toLowerCase() : '';
}
