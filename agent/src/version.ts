/** What the agent calls itself in `hello` and `--version`. */
export const AGENT_VERSION = '0.1.0';
