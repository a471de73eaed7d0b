import type { GraphiQLProps } from 'graphiql';
import { createClient } from 'graphql-ws';
import { tenantOf } from './headers';
import { findOperation, hasVariable } from './operation';

type Fetcher = GraphiQLProps['fetcher'];
type Params = Parameters<Fetcher>[0];
type Headers = Record<string, string>;

const PATH = '/graphql';
// Close codes of graphql-transport-ws.
const UNAUTHORIZED = 4401;
const FORBIDDEN = 4403;
const NEEDS_TOKEN = 'SalesPulse answers only to a token: run `salespulse token` and put it into the Headers pane.';

/** Queries and mutations by POST, subscriptions over a WebSocket; both with the Headers pane as it stands. */
export const fetcher: Fetcher = (params, options) => {
  const headers: Headers = options?.headers ?? {};
  const operation = findOperation(params.query, params.operationName);
  const request = { ...params, operationName: operation?.name?.value ?? params.operationName };
  if (hasVariable(operation, 'tenantId') && !params.variables?.tenantId) {
    // The token was pasted after the examples were opened.
    request.variables = { ...params.variables, tenantId: tenantOf(JSON.stringify(headers)) };
  }
  return operation?.operation === 'subscription' ? subscribe(request, headers) : post(request, headers);
};

async function post(params: Params, headers: Headers) {
  const response = await fetch(PATH, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json',
      Accept: 'application/graphql-response+json, application/json;q=0.9',
      ...headers,
    },
    body: JSON.stringify(params),
  });
  const text = await response.text();
  const result = parseResult(text) ?? { errors: [{ message: `HTTP ${response.status}: ${text || response.statusText}` }] };
  return response.status === 401 ? { ...result, hint: NEEDS_TOKEN } : result;
}

function parseResult(text: string) {
  try {
    const result = JSON.parse(text);
    return typeof result === 'object' ? result : null;
  } catch {
    return null;
  }
}

/** One connection per subscription, so that each begins with the headers of its own time. */
function subscribe(params: Params, headers: Headers) {
  return {
    // `any`: of the forms that an observable may be subscribed to in, GraphiQL uses the one with a sink.
    subscribe(sink: any) {
      const client = createClient({
        url: location.origin.replace(/^http/, 'ws') + PATH,
        connectionParams: headers,
        // A refused token will not get better.
        shouldRetry: (problem) => problem instanceof CloseEvent && problem.code !== FORBIDDEN,
      });
      const unsubscribe = client.subscribe(params, {
        next: (result) => sink.next(result),
        error: (reason) => sink.error(reason instanceof CloseEvent ? closed(reason) : reason),
        complete: () => sink.complete(),
      });
      return { unsubscribe };
    },
  };
}

function closed({ code, reason }: CloseEvent) {
  const message = `The connection was closed: ${code} ${reason}`.trim();
  return { message, ...([UNAUTHORIZED, FORBIDDEN].includes(code) && { hint: NEEDS_TOKEN }) };
}
