import { setTimeout as sleep } from 'node:timers/promises';
import { OllamaSimulator } from '../simulators/ollama.ts';

/** A workload that serves a model: `<port> <ms until it listens> <ms to load the model>`, until it is killed. */
const [port, startMs, loadMs] = process.argv.slice(2).map(Number);
await sleep(startMs);
const server = await OllamaSimulator.start(port);
server.behaviour.loadMs = loadMs ?? 0;
