/** How a machine behaves once it is ordered, seconds of simulated time. */
export type Behaviour =
  | { readonly kind: 'ok' }
  /** Loading takes so much longer. */
  | { readonly kind: 'slow-pull'; readonly seconds: number }
  /** Runs, but lets no key in for so long. */
  | { readonly kind: 'ssh-key-delay'; readonly seconds: number }
  /** Runs, but its start script does not. */
  | { readonly kind: 'no-start' }
  /** The same, and it never lets a key in. */
  | { readonly kind: 'no-ssh' }
  /** Loading for ever. */
  | { readonly kind: 'stuck-loading' }
  | { readonly kind: 'pull-denied' }
  | { readonly kind: 'oci-error' }
  /** An order finds the offer withdrawn. */
  | { readonly kind: 'vanish-410' }
  | { readonly kind: 'vanish-404' }
  /** So long after it came up. */
  | { readonly kind: 'outbid'; readonly seconds: number }
  | { readonly kind: 'offline'; readonly seconds: number }
  /** Once stopped it does not start again. */
  | { readonly kind: 'restart-unavailable' };

/** The behaviour a word of the seed market stands for: `ok`, `slow-pull=180`, `outbid@600`. */
export function parseBehaviour(word: string): Behaviour {
  const [kind = '', amount] = word.split(/[=@]/);
  const seconds = Number(amount ?? 0);
  switch (kind) {
    case 'slow-pull':
    case 'ssh-key-delay':
    case 'outbid':
    case 'offline':
      return { kind, seconds };
    case 'ok':
    case 'no-start':
    case 'no-ssh':
    case 'stuck-loading':
    case 'pull-denied':
    case 'oci-error':
    case 'vanish-410':
    case 'vanish-404':
    case 'restart-unavailable':
      return { kind };
    default:
      throw new Error(`the simulator knows no behaviour ${word}`);
  }
}
