/** What a connected agent said of itself. */
export interface AgentFacts {
  readonly version: string;
  /** Changes with every start of the agent process. */
  readonly bootId: string;
  /** It can install another version of itself. */
  readonly upgradable: boolean;
}
