/** How far a standby was behind its primary, as the primary's beat said it. */
export interface StandbyLag {
  readonly bytes: number;
  /** Age of the oldest change that the standby did not have, ms. */
  readonly ms: number;
  /** When the beat came, wall ms. */
  readonly atMs: number;
}
