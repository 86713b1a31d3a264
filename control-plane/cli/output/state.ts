import type { Colors } from 'picocolors/types.js';

const GREEN = new Set(['ready', 'alive', 'running', 'completed', 'done', 'averted', 'primary']);
const RED = new Set(['lost', 'confirmed', 'committed', 'failed', 'failing', 'fenced', 'exited']);
const DIM = new Set(['gone', 'stopped', 'unstarted']);

/** A state's word in the colour of its mood: green is well, red is not, dim is over, yellow is on its way. */
export function paintState(colors: Colors, state: string): string {
  if (GREEN.has(state)) return colors.green(state);
  if (RED.has(state)) return colors.red(state);
  if (DIM.has(state)) return colors.dim(state);
  return colors.yellow(state);
}
