/** Most paths of one snapshot: what a reader holds in memory. */
export const MAX_ENTRIES = 1_000_000;
/** Most distinct chunks of one snapshot: 4 TB at 1 MiB each. */
export const MAX_CHUNKS = 4_000_000;
/** Largest segment and root, bytes of JSON: below the longest string of the engine (512 MiB). */
export const MAX_SEGMENT_BYTES = 448 * 1024 * 1024;
/** All segments of one snapshot together, bytes of JSON: {@link MAX_ENTRIES} and {@link MAX_CHUNKS} fit. */
export const MAX_MANIFEST_BYTES = 1024 * 1024 * 1024;
/** Patterns of a priority file, and the length of one. */
export const MAX_PRIORITY_PATTERNS = 1_000;
export const MAX_PRIORITY_PATTERN_LENGTH = 4_096;

/** Holes of one file; a file with more is stored as if the rest were data. */
export const MAX_HOLES = 100_000;
