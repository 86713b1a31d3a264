import { z } from 'zod';

/** What an agent does for the workload on the side, so that it may go wrong without anything else failing. */
export const SOFT_ERROR_SOURCES = ['pre-snapshot', 'post-snapshot', 'pre-stop', 'checkpoints'] as const;
export type SoftErrorSource = (typeof SOFT_ERROR_SOURCES)[number];

/** Something an agent has to say unasked. Each is an event of the history; none is answered. */
export const noticeSchema = z.object({
  kind: z.literal('notice'),
  notice: z.discriminatedUnion('type', [
    /** It went on all the same. Told when it begins to fail, not each time. */
    z.object({ type: z.literal('soft-error'), source: z.enum(SOFT_ERROR_SOURCES), message: z.string().max(2_000) }),
  ]),
});
export type Notice = z.infer<typeof noticeSchema>['notice'];
