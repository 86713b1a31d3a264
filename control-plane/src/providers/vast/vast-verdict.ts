import type { JsonAnswer } from '../http/json-client.ts';
import { verdictSchema, type VastVerdict } from './vast-schemas.ts';

/** What Vast made of a call, by status and body together: a refusal may come with status 200. */
export type Verdict =
  | { readonly kind: 'done' }
  /** The offer was taken or withdrawn. */
  | { readonly kind: 'ask-gone' }
  /** There is no such instance (any more). */
  | { readonly kind: 'no-instance' }
  /** A start waits for its GPU, and would go on waiting. */
  | { readonly kind: 'queued' }
  | { readonly kind: 'key-refused'; readonly reason: string }
  | { readonly kind: 'refused'; readonly reason: string };

/** Codes and phrases, wherever they stand: `error 404/3603: no_such_ask Instance type by id N is not available.` */
const ASK_GONE = /no_such_ask|no longer rentable|already rented/;
const NO_INSTANCE = /no_such_instance|Instance .*not (?:found|exist)|does not exist/i;

/** Pure. */
export function judge(answer: JsonAnswer): Verdict & { readonly newContract: number | null } {
  const said = verdictOf(answer);
  const words = [said.error, said.msg, said.message, said.detail].filter((word) => typeof word === 'string').join(': ');
  return { ...judgeWords(answer, said, words), newContract: said.new_contract ?? null };
}

function judgeWords(answer: JsonAnswer, said: VastVerdict, words: string): Verdict {
  const isFine = answer.status >= 200 && answer.status < 300 && said.success !== false;
  if (isFine) return { kind: 'done' };
  const reason = words === '' ? `${answer.status} ${answer.quoted}` : words;
  if (answer.status === 401 || said.error === 'auth_error') return { kind: 'key-refused', reason };
  if (ASK_GONE.test(words)) return { kind: 'ask-gone' };
  if (NO_INSTANCE.test(words) || said.error === 'not_found') return { kind: 'no-instance' };
  if (said.error === 'resources_unavailable') return { kind: 'queued' };
  return { kind: 'refused', reason };
}

function verdictOf(answer: JsonAnswer): VastVerdict {
  const parsed = verdictSchema.safeParse(answer.body);
  return parsed.success ? parsed.data : {};
}
