import { DumontError, systemErrorCode } from '@dumont/shared/util/errors.ts';

interface Circumstances {
  readonly controlUrl: string;
  /** This machine's wall clock. */
  readonly nowMs: number;
}

/**
 * A failed enrolment in words that say what to do on this machine. Pure. What cannot mend itself is not retryable.
 * @returns the failure itself where its own words are good
 */
export function explainEnrolFailure(failure: DumontError, at: Circumstances): DumontError {
  const tls = tlsWords(causeCodes(failure), at);
  if (tls !== undefined) {
    const { message, hint } = tls;
    return new DumontError('UNAVAILABLE', `cannot enrol at ${at.controlUrl}: ${message}`, { hint, cause: failure });
  }
  if (failure.code === 'NOT_FOUND') {
    return new DumontError('UNSUPPORTED', `what answers at ${at.controlUrl} does not enrol agents`, {
      hint: 'Check DUMONT_CONTROL_URL, and that the control plane is not older than this agent.',
      cause: failure,
    });
  }
  if (failure.code !== 'UNAVAILABLE' && failure.code !== 'TIMEOUT') return failure;
  return new DumontError(failure.code, failure.message, {
    retryable: failure.retryable,
    hint: 'Check DUMONT_CONTROL_URL, and that this machine reaches it: curl -v <url>/api/v1/health',
    cause: failure,
  });
}

const NOT_TRUSTED = [
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
];
/** Deep enough for fetch's wrapping; bounded because causes may form a ring. */
const MAX_CAUSES = 6;

function tlsWords(
  codes: readonly string[],
  { nowMs, controlUrl }: Circumstances,
): { readonly message: string; readonly hint: string } | undefined {
  const has = (...names: readonly string[]) => codes.some((code) => names.includes(code));
  if (has('CERT_NOT_YET_VALID', 'CERT_HAS_EXPIRED')) {
    return {
      message: `its TLS certificate is not valid at this machine's time, ${new Date(nowMs).toISOString()}`,
      hint: "Set this machine's clock; if it is right, the certificate has to be renewed.",
    };
  }
  if (has(...NOT_TRUSTED)) {
    return {
      message: 'this machine does not trust its TLS certificate',
      hint: 'Install ca-certificates, or name the issuer with NODE_EXTRA_CA_CERTS=/path/to/ca.pem.',
    };
  }
  if (has('ERR_TLS_CERT_ALTNAME_INVALID')) {
    const { hostname } = new URL(controlUrl);
    return {
      message: `its TLS certificate is not for ${hostname}`,
      hint: 'Check the host name in DUMONT_CONTROL_URL.',
    };
  }
  if (has('ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG', 'EPROTO')) {
    return { message: 'it does not speak TLS', hint: 'Try DUMONT_CONTROL_URL with http:// instead of https://.' };
  }
  return undefined;
}

function causeCodes(error: unknown): readonly string[] {
  const codes: string[] = [];
  for (let current = error, depth = 0; current instanceof Error && depth < MAX_CAUSES; depth += 1) {
    const code = systemErrorCode(current);
    if (code !== undefined) codes.push(code);
    current = current.cause;
  }
  return codes;
}
