import packageJson from '../package.json' with { type: 'json' };

/** What the agent calls itself in `hello` and `--version`: its package's version, or the one its build was stamped with. */
export const AGENT_VERSION: string = packageJson.version;
