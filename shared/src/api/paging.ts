import { z } from 'zod';

/** An endpoint without a query, or without a body. */
export const nothing = z.strictObject({});

/** Largest and default page of a list; `cursor` is what the page before answered as `next`. */
export const page = {
  limit: z.coerce.number<number | string>().int().min(1).max(500).default(100),
  cursor: z.string().max(200).optional(),
};

/** One page of a list; `next` is null on the last. */
export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({ items: z.array(item), next: z.string().nullable() });
