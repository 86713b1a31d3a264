import { formatDuration } from '@dumont/shared/util/units.ts';
import { AGENT_VERSION } from '../version.ts';
import { fail, ok, skip, warn, type Check, type Finding } from './check.ts';
import { publicUrl, type Leg } from './control-path.ts';
import type { Situation } from './situation.ts';

const DAY_MS = 86_400_000;
/** Certificates are renewed a month or a week ahead: later than this, nobody does. */
const CERTIFICATE_WARNING_MS = 5 * DAY_MS;
/** Times in the books would look wrong. */
const SKEW_WARNING_MS = 30_000;
/** Certificates just issued and signed requests start to be refused. */
const SKEW_FAILURE_MS = 300_000;
const SET_CLOCK =
  'Set the clock: timedatectl set-ntp true, or chronyd -q; in a container only the owner of the host can.';
const OPEN_PORT = 'Check that the control plane runs, and that no firewall stands between.';

const FIXES: Readonly<Record<string, string>> = {
  ENOTFOUND: 'Check the name for a typing error, and /etc/resolv.conf.',
  EAI_AGAIN: 'The name server does not answer: check /etc/resolv.conf and the network.',
  ECONNREFUSED: 'Nothing listens there: check the port, and that the control plane runs.',
  ETIMEDOUT: OPEN_PORT,
  EHOSTUNREACH: OPEN_PORT,
  ENETUNREACH: 'This machine has no route there: check its network.',
};

export const LINK_CHECKS: readonly Check[] = [
  {
    id: 'control-url',
    title: 'Control plane address',
    run: async ({ control, overridden }) => {
      if (!control.isGiven) return skip('none is set (DUMONT_CONTROL_URL): commands without a control plane work');
      const { address } = control;
      if (address === null) {
        return fail('DUMONT_CONTROL_URL is not a ws://, wss://, http:// or https:// URL', 'Correct it in agent.env.');
      }
      const url = publicUrl(address);
      if (overridden.includes('DUMONT_CONTROL_URL')) {
        return warn(
          `${url} by this shell; the installed agent uses another`,
          'Unset DUMONT_CONTROL_URL and look again.',
        );
      }
      const isLocal = /^(?:localhost|127\.|::1$)/.test(address.host);
      if (address.isTls || isLocal) return ok(url);
      return warn(`${url} without TLS: whoever sees the network reads and changes it`, 'Use https:// where you can.');
    },
  },
  {
    id: 'control-name',
    title: 'Control plane name',
    run: async ({ control }) =>
      onLeg(await control.resolve(), 'the name does not resolve', (all) => ok(all.join(', '))),
  },
  {
    id: 'control-tcp',
    title: 'Control plane port',
    run: async ({ control }) =>
      onLeg(await control.dial(), 'no TCP connection', (ms) => ok(`connected in ${formatDuration(ms)}`)),
  },
  { id: 'control-tls', title: 'Control plane certificate', run: checkCertificate },
  { id: 'control-http', title: 'Control plane API', run: checkApi },
  {
    id: 'control-socket',
    title: 'Agent socket',
    run: async ({ control }) => {
      const leg = await control.openSocket();
      const fix = 'If a proxy stands before the control plane, it must pass WebSocket upgrades of /agent/v1.';
      return leg.kind === 'failed'
        ? fail(`the WebSocket does not open: ${leg.code}`, fix)
        : onLeg(leg, '', () => ok('opens'));
    },
  },
  { id: 'proxy', title: 'Proxy variables', run: checkProxy },
  { id: 'clock', title: 'Clock', run: checkClock },
];

function onLeg<T>(leg: Leg<T>, failure: string, reached: (value: T) => Finding): Finding {
  switch (leg.kind) {
    case 'reached':
      return reached(leg.value);
    case 'blocked':
      return skip(leg.by === 'the address' ? 'there is no usable address' : `not tried: ${leg.by} comes first`);
    case 'failed':
      return fail(`${failure}: ${leg.code}`, FIXES[leg.code] ?? OPEN_PORT);
  }
}

async function checkCertificate({ control, clock }: Situation): Promise<Finding> {
  return onLeg(await control.shakeHands(), 'no TLS connection', (certificate) => {
    if (certificate === null) return skip('the address has no TLS');
    const nowMs = clock.nowMs();
    const { validFromMs, validToMs, distrust } = certificate;
    const until = new Date(validToMs).toISOString().slice(0, 10);
    if (distrust === 'CERT_NOT_YET_VALID' || nowMs < validFromMs) {
      const now = new Date(nowMs).toISOString();
      return fail(`it is valid only from ${new Date(validFromMs).toISOString()}; here it is ${now}`, SET_CLOCK);
    }
    if (distrust === 'CERT_HAS_EXPIRED') {
      return fail(
        `it ended on ${until}`,
        `Renew it on the control plane, unless the clock here is wrong. ${SET_CLOCK}`,
      );
    }
    if (distrust !== null) {
      const fix = 'If it is your own, name its authority in NODE_EXTRA_CA_CERTS; if not, somebody listens in between.';
      return fail(`it is not trusted: ${distrust}`, fix);
    }
    if (validToMs - nowMs < CERTIFICATE_WARNING_MS)
      return warn(`it ends on ${until}`, 'Renew it on the control plane.');
    return ok(`valid until ${until}`);
  });
}

async function checkApi({ control }: Situation): Promise<Finding> {
  return onLeg(await control.ask(), 'no answer to HTTP', ({ status, version }) => {
    if (status === 200 && version !== null) return ok(`control plane ${version}, agent ${AGENT_VERSION}`);
    const what = status === 200 ? 'something that is no control plane' : `HTTP ${status}`;
    return fail(`it answers ${what}`, 'Check the address, and the log of the control plane.');
  });
}

async function checkProxy({ environment, control }: Situation): Promise<Finding> {
  const names = ['HTTPS_PROXY', 'https_proxy', 'HTTP_PROXY', 'http_proxy', 'ALL_PROXY', 'all_proxy'];
  const set = names.filter((name) => (environment[name] ?? '') !== '');
  if (set.length === 0) return ok('none are set');
  if (!control.isGiven) return skip(`${set.join(', ')}: not used, and no control plane is set`);
  const dialled = await control.dial();
  const detail = `${set.join(', ')} set; the agent connects directly and does not use it`;
  return dialled.kind === 'reached' ? ok(detail) : warn(detail, 'Allow a direct connection to the control plane.');
}

async function checkClock({ control }: Situation): Promise<Finding> {
  const leg = await control.ask();
  const aheadMs = leg.kind === 'reached' ? leg.value.clockAheadMs : null;
  if (aheadMs === null) return skip('compared with that of the control plane, and none answers');
  const off = Math.abs(aheadMs);
  if (off < 1_500) return ok('agrees with the control plane to a second');
  const detail = `${formatDuration(off)} ${aheadMs > 0 ? 'behind' : 'ahead of'} the control plane`;
  if (off >= SKEW_FAILURE_MS) return fail(detail, SET_CLOCK);
  return off >= SKEW_WARNING_MS ? warn(detail, SET_CLOCK) : ok(detail);
}
