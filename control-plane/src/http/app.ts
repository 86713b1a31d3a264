import type { IRouter, Request, RequestHandler, Response } from 'express';
import express from 'express';
import type { Endpoint } from '@dumont/shared/api/endpoint.ts';
import { API_PREFIX, MAX_BODY_BYTES } from '@dumont/shared/api/endpoint.ts';
import type { EndpointName } from '@dumont/shared/api/endpoints.ts';
import { ENDPOINTS, EVENT_STREAM_PATH } from '@dumont/shared/api/endpoints.ts';
import { DumontError } from '@dumont/shared/util/errors.ts';
import { SIGN_PATH, signBodySchema } from '@dumont/shared/protocol/signed-request.ts';
import { describeIssues } from '@dumont/shared/util/zod-issues.ts';
import type { z } from 'zod';
import { requireToken } from './auth.ts';
import { createDownloads } from './downloads.ts';
import { eventStreamHandler } from './events-route.ts';
import type { ApiRequest } from './handler.ts';
import { createHandlers } from './handlers.ts';
import { parseJsonBody } from './json-body.ts';
import { problemOf, sendProblem } from './problem.ts';
import { callerOf } from './public-url.ts';
import { answerErrors, callerSignal, requestContext } from './request-context.ts';
import type { ApiServices } from './services.ts';

/**
 * The REST API as an Express application: the whole endpoint table and the event stream under `/api/v1`, the installer
 * and the agent's builds beside it, every error a problem document. There are no CORS headers, so a foreign web page can neither read an answer nor send the token.
 * The caller listens, and disposes the event source before it closes the server: that ends the open streams.
 */
export function createApp(services: ApiServices): express.Express {
  const app = express();
  app.disable('x-powered-by');
  app.set('query parser', 'simple');
  app.use(requestContext(services.log, services.clock));
  app.use(API_PREFIX, createApiRouter(services));
  app.use(createDownloads({ ...services.downloads, publicUrl: services.publicUrl }));
  app.use((request, response) => {
    const unknown = new DumontError('NOT_FOUND', `there is nothing at ${request.method} ${request.path}`, {
      hint: `The API is below ${API_PREFIX}; its endpoints are listed in the API documentation.`,
    });
    sendProblem(response, problemOf(unknown));
  });
  app.use(answerErrors(services.log));
  return app;
}

function createApiRouter(services: ApiServices): IRouter {
  const router = express.Router({ caseSensitive: true });
  const handlers = createHandlers(services);
  const authenticated = requireToken(services.apiToken);
  const readBody = express.text({ type: 'application/json', limit: MAX_BODY_BYTES });
  const methodsByPath = new Map<string, string[]>([[EVENT_STREAM_PATH, ['GET']]]);

  methodsByPath.set(SIGN_PATH, ['POST']);
  router.use(refuseNul);
  // Its own kind of token: an agent's credential, never the operator's.
  router.post(SIGN_PATH, readBody, signHandler(services));
  router.get(EVENT_STREAM_PATH, authenticated, eventStreamHandler(services));
  for (const name of Object.keys(ENDPOINTS) as EndpointName[]) {
    const endpoint: Endpoint = ENDPOINTS[name];
    methodsByPath.set(endpoint.path, [...(methodsByPath.get(endpoint.path) ?? []), endpoint.method]);
    const guards = endpoint.auth ? [authenticated, readBody] : [readBody];
    router[methodOf(endpoint)](endpoint.path, ...guards, endpointHandler(endpoint, handlers[name] as AnyHandler));
  }
  for (const [path, methods] of methodsByPath) router.all(path, refuseMethod(methods));
  return router;
}

/** A handler with its endpoint's types forgotten: the table's schemas make up for them at run time. */
type AnyHandler = (request: ApiRequest<EndpointName>) => Promise<unknown>;

function endpointHandler(endpoint: Endpoint, handle: AnyHandler): RequestHandler {
  return async (request, response) => {
    const answer = await handle({
      params: request.params as ApiRequest<EndpointName>['params'],
      query: validate(endpoint.query, request.query, 'the query') as ApiRequest<EndpointName>['query'],
      body: validate(endpoint.body, bodyOf(request), 'the body') as ApiRequest<EndpointName>['body'],
      caller: callerOf(request),
      signal: callerSignal(response),
    });
    response.status(endpoint.successStatus).json(answer);
  };
}

function signHandler(services: ApiServices): RequestHandler {
  return async (request, response) => {
    const { requests } = validate(signBodySchema, bodyOf(request), 'the body');
    response.json(await services.signRequests(request.headers.authorization, requests));
  };
}

function validate<Value>(schema: z.ZodType<Value>, value: unknown, what: string): Value {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { summary, field } = describeIssues(parsed.error);
  throw new DumontError('USAGE', `${what} is not valid: ${summary}`, { field });
}

function bodyOf(request: Request): unknown {
  if (typeof request.body === 'string') return parseJsonBody(request.body);
  const isEmpty =
    request.headers['transfer-encoding'] === undefined && Number(request.headers['content-length'] ?? 0) === 0;
  if (isEmpty) return {};
  throw new DumontError('USAGE', `the body is of type "${request.headers['content-type'] ?? 'none'}", not JSON`, {
    field: 'Content-Type',
    hint: 'Send JSON with "Content-Type: application/json".',
  });
}

/** The databases cannot store NUL in a text, so no name contains one. */
const refuseNul: RequestHandler = (request, _response, next) => {
  if (request.url.includes('%00')) throw new DumontError('USAGE', 'the URL contains a NUL character');
  next();
};

function refuseMethod(methods: readonly string[]) {
  const allowed = (methods.includes('GET') ? [...methods, 'HEAD'] : methods).join(', ');
  return (request: Request, response: Response): void => {
    response.setHeader('Allow', allowed);
    const error = new DumontError('USAGE', `${request.method} is not possible here`, { hint: `Allowed: ${allowed}.` });
    sendProblem(response, problemOf(error, 405));
  };
}

function methodOf(endpoint: Endpoint): 'get' | 'post' | 'patch' | 'delete' {
  return endpoint.method.toLowerCase() as 'get' | 'post' | 'patch' | 'delete';
}
