/** How one service differs from the S3 that all have in common. */
export interface Quirks {
  /**
   * Conditional writes: `works`; `conflicts` answers 409 instead of 412 when the other write came while this one ran;
   * `unsupported` answers 501; `ignored` overwrites in silence.
   */
  readonly conditionalPut: 'works' | 'conflicts' | 'unsupported' | 'ignored';
  /** More in one second are answered 503 SlowDown. */
  readonly requestsPerSecond: number | null;
  /** More to one key in one second are answered 429. */
  readonly writesPerKeyPerSecond: number | null;
  /** A plain delete hides the object; only a delete of its version frees the bytes. */
  readonly keepsVersions: boolean;
  /** Bodies have to come with their SHA-256. */
  readonly needsSignedPayload: boolean;
  /** Refuses `x-amz-checksum-…` headers with 400. */
  readonly refusesChecksums: boolean;
}

const COMMON: Quirks = {
  conditionalPut: 'works',
  requestsPerSecond: null,
  writesPerKeyPerSecond: null,
  keepsVersions: false,
  needsSignedPayload: false,
  refusesChecksums: false,
};

/** The services by name, and one that does not know conditional writes but says nothing. */
export const MODES = {
  minio: COMMON,
  s3: { ...COMMON, conditionalPut: 'conflicts' },
  b2: {
    conditionalPut: 'unsupported',
    requestsPerSecond: 500,
    writesPerKeyPerSecond: null,
    keepsVersions: true,
    needsSignedPayload: true,
    refusesChecksums: true,
  },
  r2: { ...COMMON, writesPerKeyPerSecond: 1 },
  wasabi: { ...COMMON, conditionalPut: 'ignored', requestsPerSecond: 200 },
  ignorant: { ...COMMON, conditionalPut: 'ignored' },
} as const satisfies Readonly<Record<string, Quirks>>;

export type SimulatorMode = keyof typeof MODES;
