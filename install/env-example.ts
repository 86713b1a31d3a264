import { homedir } from 'node:os';
import type { EnvSchema } from '../shared/src/node/config.ts';
import { describeEnvironment } from '../shared/src/node/config.ts';
import { agentEnvironmentSchema } from '../agent/src/config.ts';
import { controlEnvironmentSchema } from '../control-plane/src/config.ts';

/** The text of env.example: every variable of both processes, each with its meaning, commented out at its default. */
export function envExample(): string {
  return `# Environment of Dumont. Every line is optional unless it says (required); values shown are the defaults.
# Made from the schemas by: npm run docs:env

# ---- Control plane (npm run serve) ----

${section(controlEnvironmentSchema)}
# ---- Agent (npm run agent); the control plane sets these on the machines it rents ----

${section(agentEnvironmentSchema)}`;
}

function section(schema: EnvSchema): string {
  return describeEnvironment(schema)
    .map(({ name, defaultText, description }) => {
      const isRequired = defaultText === '(required)';
      const value = isRequired ? '' : defaultText.replace(homedir(), '~');
      return `# ${description}${isRequired ? ' (required)' : ''}\n#${name}=${value}\n`;
    })
    .join('\n');
}
