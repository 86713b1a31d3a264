import type { StrategyName } from '@dumont/shared/model/policy.ts';
import { coldstart } from './coldstart.ts';
import { race } from './race.ts';
import { roundrobin } from './roundrobin.ts';
import type { Strategy } from './strategy.ts';

/** Every strategy by its name in the policy. */
export const STRATEGIES: Readonly<Record<StrategyName, Strategy>> = { race, coldstart, roundrobin };
