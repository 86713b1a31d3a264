import { API_PREFIX } from '@dumont/shared/api/endpoint.ts';
import { problemSchema } from '@dumont/shared/api/problem.ts';
import { SIGN_PATH, signAnswerSchema } from '@dumont/shared/protocol/signed-request.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { tryParseJson } from '@dumont/shared/util/try-json.ts';
import type { SignRequests } from './url-desk.ts';

/** Signing is arithmetic: a control plane that takes longer is not there. */
const TIMEOUT_MS = 10_000;

/**
 * Signs at the control plane that this agent belongs to.
 * @param options.controlUrl its base, http or https
 * @param options.authorization the header of this agent, read for every call: credentials rotate
 */
export function controlSigner(options: {
  readonly controlUrl: string;
  readonly authorization: () => string;
}): SignRequests {
  const url = options.controlUrl.replace(/\/+$/, '') + API_PREFIX + SIGN_PATH;
  return async (requests) => {
    let response: Response;
    let text: string;
    try {
      response = await fetch(url, {
        method: 'POST',
        headers: { authorization: options.authorization(), 'content-type': 'application/json' },
        body: JSON.stringify({ requests }),
        redirect: 'error',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      text = await response.text();
    } catch (error) {
      throw new DumontError('UNAVAILABLE', 'the control plane does not answer, so no request can be signed', {
        retryable: true,
        cause: error,
      });
    }
    if (!response.ok) throw refusal(response.status, text);
    const answer = signAnswerSchema.safeParse(tryParseJson(text));
    if (answer.success) return answer.data;
    throw new DumontError('PROTOCOL', 'the control plane answered a signing with something else');
  };
}

function refusal(status: number, text: string): DumontError {
  const problem = problemSchema.safeParse(tryParseJson(text));
  const said = problem.success ? problem.data.detail : `status ${status}`;
  const message = `the control plane did not sign the request: ${said}`;
  if (status === 408 || status === 429 || status >= 500) {
    return new DumontError('UNAVAILABLE', message, { retryable: true });
  }
  return new DumontError(status === 401 || status === 403 ? 'UNAUTHORIZED' : 'PROTOCOL', message);
}
