import type { z } from 'zod';
import type { PathParams } from './endpoint.ts';
import type { ENDPOINTS, EndpointName } from './endpoints.ts';

type EndpointOf<Name extends EndpointName> = (typeof ENDPOINTS)[Name];

/** The `:names` of an endpoint's path, each a text. */
export type ParamsOf<Name extends EndpointName> = Readonly<Record<PathParams<EndpointOf<Name>['path']>, string>>;
/** What an endpoint answers. */
export type ResponseOf<Name extends EndpointName> = z.output<EndpointOf<Name>['response']>;
/** Query and body as the server's handler gets them: validated, defaults filled in. */
export type QueryOf<Name extends EndpointName> = z.output<EndpointOf<Name>['query']>;
export type BodyOf<Name extends EndpointName> = z.output<EndpointOf<Name>['body']>;

/** A field that may be left out when nothing in it is required. */
type Field<Key extends string, Value> = {} extends Value
  ? { readonly [K in Key]?: Value | undefined }
  : { readonly [K in Key]: Value };

/** What a caller gives: path parameters, query and body (defaults may be left out), and how long to wait. */
export type CallInput<Name extends EndpointName> = Field<'params', ParamsOf<Name>> &
  Field<'query', z.input<EndpointOf<Name>['query']>> &
  Field<'body', z.input<EndpointOf<Name>['body']>> & {
    /** Longest wait for the whole answer, ms; 30 s unless told. */
    readonly timeoutMs?: number | undefined;
    readonly signal?: AbortSignal | undefined;
  };

/** The input itself may be left out when nothing in it is required. */
export type CallArguments<Name extends EndpointName> =
  {} extends CallInput<Name> ? [input?: CallInput<Name>] : [input: CallInput<Name>];
