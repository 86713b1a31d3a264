import type { BodyOf, ParamsOf, QueryOf, ResponseOf } from '@dumont/shared/api/call.ts';
import type { EndpointName } from '@dumont/shared/api/endpoints.ts';
import type { Caller } from './public-url.ts';

/** One call after authentication and validation. */
export interface ApiRequest<Name extends EndpointName> {
  readonly params: ParamsOf<Name>;
  readonly query: QueryOf<Name>;
  readonly body: BodyOf<Name>;
  readonly caller: Caller;
  /** Aborts when the caller goes away before the answer. */
  readonly signal: AbortSignal;
}

/** Answers an endpoint's success; a DumontError thrown becomes the problem of its code. */
type Handler<Name extends EndpointName> = (request: ApiRequest<Name>) => Promise<ResponseOf<Name>>;

/** Every endpoint's handler: the compiler refuses a missing one and a wrong answer. */
export type Handlers = { readonly [Name in EndpointName]: Handler<Name> };
