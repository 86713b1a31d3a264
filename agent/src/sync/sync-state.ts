/** How far the standby is behind. */
export interface SyncState {
  /** Bytes not yet acknowledged, as far as they are known. */
  readonly pendingBytes: number;
  /** Age of the oldest change not yet acknowledged, ms; 0 when the standby has everything. */
  readonly pendingMs: number;
  /** The last batch the standby acknowledged, with the hash of both trees after it; null before the first. */
  readonly watermark: { readonly seq: number; readonly hash: string } | null;
  /** The standby has never had all of the folder. */
  readonly isInitial: boolean;
  readonly isConnected: boolean;
  /** Sent in all sessions so far. */
  readonly sentBytes: number;
}
