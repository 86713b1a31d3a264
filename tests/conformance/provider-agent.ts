import { spawn } from 'node:child_process';
import { connect } from 'node:net';
import { must } from '@dumont/shared/util/assert.ts';
import { systemClock } from '@dumont/shared/util/clock.ts';

/**
 * The smallest agent: tells the control plane who it is, then beats. Its grandchild left the session, as a user's
 * daemon would.
 */
const url = new URL(must(process.env['DUMONT_CONTROL_URL'], 'the host says where the control plane is'));
const stray = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
stray.unref();

const socket = connect(Number(url.port), url.hostname);
const say = (message: object) => socket.write(`${JSON.stringify(message)}\n`);
say({
  kind: 'hello',
  ref: process.env['DUMONT_MACHINE_REF'],
  pid: process.pid,
  strayPid: stray.pid,
  cwd: process.cwd(),
  environment: process.env,
});
systemClock.every(20, () => say({ kind: 'beat' }));
socket.on('data', (bytes: Buffer) => {
  if (bytes.toString().includes('crash')) throw new Error('told to crash');
});
// A connection that broke is an error exit, so the host starts the agent again.
socket.on('error', (error) => {
  throw error;
});
socket.on('close', () => {
  throw new Error('lost the control plane');
});
