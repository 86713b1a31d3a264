import { defineConfig } from 'vitest/config';

const nodeMajor = Number(process.versions.node.split('.')[0]);
if (nodeMajor < 24) {
  throw new Error(`tests need the Node 24 that npm installs, this is ${process.versions.node}: use "npm test"`);
}

/** Tests that start many processes get a project of their own and run one file at a time: there are two cores. */
export default defineConfig({
  test: {
    root: import.meta.dirname,
    globalSetup: ['./world/postgres-setup.ts'],
    projects: [
      {
        test: {
          name: 'unit',
          root: import.meta.dirname,
          include: ['tidy/**/*.test.ts', 'unit/**/*.test.ts', 'conformance/**/*.test.ts'],
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          root: import.meta.dirname,
          include: ['e2e/**/*.test.ts', 'chaos/**/*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
          // Alone on the machine: these tests hold the system to its times.
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
