import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build, transform, type Plugin } from 'esbuild';
import { ADDONS, THREAD_FILES, threadAsset, type ThreadName } from '../../agent/src/node/assets.ts';
import { must } from '../../shared/src/util/assert.ts';
import { REPOSITORY } from './packages.ts';

export interface AgentBundles {
  /** The agent as one CommonJS script. */
  readonly main: Uint8Array;
  /** The scripts of its threads, by the name of their asset. */
  readonly threads: ReadonlyMap<string, Uint8Array>;
}

/** Bundles the agent and its threads. The same for every machine; nothing in it tells where or when it was made. */
export async function bundleAgent(version: string): Promise<AgentBundles> {
  const names = Object.keys(THREAD_FILES) as ThreadName[];
  const [main, ...threads] = await Promise.all([
    bundleScript('agent/src/main.ts', version),
    ...names.map((name) => bundleScript(THREAD_FILES[name], version)),
  ]);
  return {
    main,
    threads: new Map(names.map((name, index) => [threadAsset(name), must(threads[index], 'one bundle per thread')])),
  };
}

async function bundleScript(entry: string, version: string): Promise<Uint8Array> {
  const { outputFiles } = await build({
    absWorkingDir: REPOSITORY,
    entryPoints: [entry],
    bundle: true,
    write: false,
    platform: 'node',
    // Of a package that comes in both forms, the one of which what is not used can be left out.
    mainFields: ['module', 'main'],
    target: 'node24',
    // The executable starts a CommonJS script only.
    format: 'cjs',
    // Our own names stay, so that a stack trace tells where it was.
    minifyWhitespace: true,
    minifySyntax: true,
    // Only what runs from the sources looks for its own place.
    define: { 'import.meta.dirname': '__dirname' },
    logOverride: { 'empty-import-meta': 'error' },
    logLevel: 'error',
    plugins: [embeddedAddons, englishOnly, versionStamp(version), givenCredentials, shortNames],
  });
  return must(outputFiles[0], 'esbuild writes one file per entry').contents;
}

/** Replaces how the packages of native modules look for their `.node` file: it lies in the executable. */
const embeddedAddons: Plugin = {
  name: 'embedded-addons',
  setup(bundler) {
    const filter = new RegExp(`^@napi-rs/(?:${ADDONS.join('|')})$`);
    bundler.onResolve({ filter }, ({ path }) => ({ path: path.slice('@napi-rs/'.length), namespace: 'addon' }));
    bundler.onLoad({ filter: /./, namespace: 'addon' }, ({ path }) => {
      const loader = JSON.stringify(join(REPOSITORY, 'agent/src/node/native-addon.ts'));
      return {
        contents: `module.exports = require(${loader}).loadAddon(${JSON.stringify(path)});`,
        resolveDir: REPOSITORY,
      };
    });
  },
};

/** Half of a thread's script would be error messages of zod in fifty languages. */
const englishOnly: Plugin = {
  name: 'english-only',
  setup(bundler) {
    const contents = `export { default as en } from './en.js';`;
    bundler.onLoad({ filter: /zod[/\\]v4[/\\]locales[/\\]index\.js$/ }, () => ({ contents }));
  },
};

/**
 * The agent gets its credentials from the control plane or its own configuration. What looks for others on the machine, in
 * files and at the cloud's metadata server, would be a quarter of the script, and a surprise.
 */
const givenCredentials: Plugin = {
  name: 'given-credentials',
  setup(bundler) {
    const filter = /^@aws-sdk\/credential-provider-node$/;
    bundler.onResolve({ filter }, () => ({ path: 'none', namespace: 'credentials' }));
    bundler.onLoad({ filter: /./, namespace: 'credentials' }, () => ({
      contents: `export const defaultProvider = () => () => Promise.reject(new Error('no credentials were given'));`,
    }));
  },
};

/** Names within the packages of others are two thirds of a megabyte that every agent would hold in memory for its whole life. */
const shortNames: Plugin = {
  name: 'short-names',
  setup(bundler) {
    bundler.onLoad({ filter: /[/\\]node_modules[/\\].*\.[cm]?js$/ }, async ({ path }) => {
      const { code } = await transform(await readFile(path, 'utf8'), { minifyIdentifiers: true, target: 'node24' });
      return { contents: code };
    });
  },
};

/** The version that the build is stamped with, in the place of the package's own. */
function versionStamp(version: string): Plugin {
  return {
    name: 'version-stamp',
    setup(bundler) {
      bundler.onLoad({ filter: /agent[/\\]package\.json$/ }, () => ({
        contents: JSON.stringify({ version }),
        loader: 'json',
      }));
    },
  };
}
