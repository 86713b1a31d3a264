import type { TransitionTable } from './transition.ts';

/**
 * The life of one rented machine while we hold it. It dies once and is never reused.
 * - `requested`: written down, the provider has not answered yet
 * - `booting`: the provider accepted, the agent has not said hello
 * - `ready`: the agent is connected or was a moment ago
 * - `lost`: the detector confirmed its death
 * - `releasing`: its destruction was asked for
 * - `gone`: the provider confirmed twice that it no longer exists
 */
export const INSTANCE_STATES = ['requested', 'booting', 'ready', 'lost', 'releasing', 'gone'] as const;
export type InstanceState = (typeof INSTANCE_STATES)[number];

export const INSTANCE_EVENTS = [
  'accepted',
  'refused',
  'agentReady',
  'lost',
  'returned',
  'release',
  'confirmedGone',
] as const;
export type InstanceEvent = (typeof INSTANCE_EVENTS)[number];

/** `refused` is final without a release: the provider created nothing. */
export const INSTANCE_TABLE: TransitionTable<InstanceState, InstanceEvent> = {
  requested: {
    accepted: 'booting',
    refused: 'gone',
    agentReady: 'ready',
    lost: 'lost',
    returned: 'stay',
    release: 'releasing',
    confirmedGone: 'gone',
  },
  booting: {
    accepted: 'stay',
    refused: 'stay',
    agentReady: 'ready',
    lost: 'lost',
    returned: 'stay',
    release: 'releasing',
    confirmedGone: 'gone',
  },
  ready: {
    accepted: 'stay',
    refused: 'stay',
    agentReady: 'stay',
    lost: 'lost',
    returned: 'stay',
    release: 'releasing',
    confirmedGone: 'gone',
  },
  lost: {
    accepted: 'stay',
    refused: 'stay',
    agentReady: 'stay',
    lost: 'stay',
    returned: 'ready',
    release: 'releasing',
    confirmedGone: 'gone',
  },
  releasing: {
    accepted: 'stay',
    refused: 'stay',
    agentReady: 'stay',
    lost: 'stay',
    returned: 'stay',
    release: 'stay',
    confirmedGone: 'gone',
  },
  gone: {
    accepted: 'stay',
    refused: 'stay',
    agentReady: 'stay',
    lost: 'stay',
    returned: 'stay',
    release: 'stay',
    confirmedGone: 'stay',
  },
};

/** What the agent on an instance is for. */
export const AGENT_ROLES = ['gpu', 'standby'] as const;
export type AgentRole = (typeof AGENT_ROLES)[number];

/**
 * What an instance is to its workspace right now, told to the agent in `welcome`.
 * - `primary`: holds the lease; runs the workload, publishes snapshots
 * - `replacement`: being prepared; obeys commands, publishes nothing
 * - `standby`: follows the primary
 * - `fenced`: an older epoch; must stop the workload and publish nothing
 */
export const STANDINGS = ['primary', 'replacement', 'standby', 'fenced'] as const;
export type Standing = (typeof STANDINGS)[number];
