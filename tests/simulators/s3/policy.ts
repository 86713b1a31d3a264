import { z } from 'zod';

/** What a request wants: an S3 action on a bucket and a key; of a listing the prefix it asks for. */
export interface Wish {
  readonly action: string;
  readonly bucket: string;
  readonly key: string;
  readonly listedPrefix: string | null;
}

export type Allows = (wish: Wish) => boolean;

/** Exactly the statements we use; anything else is an error, so that no test passes by a policy that means nothing. */
const policySchema = z.strictObject({
  Version: z.literal('2012-10-17'),
  Statement: z
    .array(
      z.strictObject({
        Effect: z.literal('Allow'),
        Action: z.array(z.enum(['s3:GetObject', 's3:PutObject', 's3:AbortMultipartUpload', 's3:ListBucket'])).min(1),
        Resource: z.array(z.string().regex(/^arn:aws:s3:::[a-z0-9.-]+(?:\/[A-Za-z0-9/._-]*\*?)?$/)).min(1),
        Condition: z
          .strictObject({ StringLike: z.strictObject({ 's3:prefix': z.array(z.string()).min(1) }) })
          .optional(),
      }),
    )
    .min(1),
});

/** A session policy as a function. @throws for a policy with anything the simulator does not understand */
export function readPolicy(text: string): Allows {
  const { Statement: statements } = policySchema.parse(JSON.parse(text));
  return ({ action, bucket, key, listedPrefix }) =>
    statements.some(({ Action: actions, Resource: resources, Condition: condition }) => {
      const isListing = action === 's3:ListBucket';
      const arn = `arn:aws:s3:::${bucket}${isListing ? '' : `/${key}`}`;
      const prefixes = condition?.StringLike['s3:prefix'];
      const meetsCondition =
        prefixes === undefined || (listedPrefix !== null && prefixes.some((each) => isLike(each, listedPrefix)));
      return (
        (actions as readonly string[]).includes(action) && resources.some((each) => isLike(each, arn)) && meetsCondition
      );
    });
}

/** `*` at the end stands for anything; nowhere else, which is all we write. */
function isLike(pattern: string, text: string): boolean {
  return pattern.endsWith('*') ? text.startsWith(pattern.slice(0, -1)) : text === pattern;
}
