import { registerHooks } from 'node:module';

/** Preloaded into an agent of a test: it then takes itself for the version that STAMPED_VERSION names. */
registerHooks({
  load(url, context, next) {
    if (!url.endsWith('/agent/src/version.ts')) return next(url, context);
    const source = `export const AGENT_VERSION = ${JSON.stringify(process.env['STAMPED_VERSION'])};`;
    return { format: 'module', source, shortCircuit: true };
  },
});
