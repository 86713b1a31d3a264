import { runAgent } from '@dumont/agent/agent.ts';
import { readAgentConfig } from '@dumont/agent/config.ts';
import { CredentialFile, credentialPath } from '@dumont/agent/identity/credential-file.ts';
import { storeEngine } from '@dumont/agent/lease/store-engine.ts';
import { runMain } from '@dumont/shared/node/lifecycle.ts';
import { createLogger } from '@dumont/shared/node/logger.ts';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';
import { systemRandom } from '@dumont/shared/util/random.ts';

/** The real agent, whose main thread stands still for as many milliseconds as its parent says. */
process.on('message', (message) => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(message));
});

await runMain(async (signal) => {
  const config = readAgentConfig(process.env);
  const parts = { config, clock: systemClock, random: systemRandom };
  const credentials = await CredentialFile.open(credentialPath(config.stateDir));
  const identity = must(credentials.record?.identity, 'the test gave it an identity');
  const openEngine = storeEngine({ ...parts, identity, toolVersion: 'test' });
  await runAgent(
    { ...parts, identity, credentials, log: createLogger('agent', 'info'), openEngine },
    { stop: signal, restart: new AbortController().signal },
  );
  process.disconnect();
});
