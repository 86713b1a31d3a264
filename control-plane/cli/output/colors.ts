import pc from 'picocolors';
import type { Colors } from 'picocolors/types.js';

/** Painting functions; without colours they return the text as it is. */
export function createColors(enabled: boolean): Colors {
  return pc.createColors(enabled);
}
