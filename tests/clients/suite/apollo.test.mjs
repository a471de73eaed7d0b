// Apollo Client: queries, automatic persisted queries, subscriptions by multipart HTTP and by WebSocket.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { ApolloClient, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { BatchHttpLink } from '@apollo/client/link/batch-http';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { startServer } from './server.mjs';

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const ME = gql`
  query Me {
    me {
      role
    }
  }
`;
const WATCH = gql`
  subscription Watch($tenantId: ID!) {
    metricsUpdated(tenantId: $tenantId) {
      ordersCount
    }
  }
`;
const clientOf = (link) => new ApolloClient({ link, cache: new InMemoryCache() });
const http = (options = {}) => new HttpLink({ uri: server.url, headers: server.headers, ...options });

test('a query', async () => {
  const { data } = await clientOf(http()).query({ query: ME });
  assert.equal(data.me.role, 'ADMIN');
});

test('a query by GET', async () => {
  const { data } = await clientOf(http({ useGETForQueries: true })).query({ query: ME });
  assert.equal(data.me.role, 'ADMIN');
});

test('errors have their codes', async () => {
  await assert.rejects(clientOf(http()).query({ query: gql`{ nothing }` }), (error) => {
    assert.equal(error.errors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');
    return true;
  });
});

test('a document by its hash, sent in full when it is not known', async () => {
  const bodies = [];
  const fetchAndNote = (input, init) => {
    bodies.push(init.body ? JSON.parse(init.body) : Object.fromEntries(new URL(input).searchParams));
    return fetch(input, init);
  };
  for (const useGETForHashedQueries of [false, true]) {
    const sha256 = (text) => createHash('sha256').update(text).digest('hex');
    const link = new PersistedQueryLink({ sha256, useGETForHashedQueries }).concat(http({ fetch: fetchAndNote }));
    const { data } = await clientOf(link).query({ query: ME });
    assert.equal(data.me.role, 'ADMIN');
  }
  assert.deepEqual(bodies.map(({ query }) => query !== undefined), [false, true, false]);
});

test('a batch', async () => {
  let requests = 0;
  const link = new BatchHttpLink({
    uri: server.url,
    headers: server.headers,
    fetch: (input, init) => (requests++, fetch(input, init)),
  });
  const client = clientOf(link);
  const answers = await Promise.all([client.query({ query: ME }), client.query({ query: gql`query Tenant { tenant { name } }` })]);
  assert.deepEqual([answers[0].data.me.role, answers[1].data.tenant.name], ['ADMIN', 'acme']);
  assert.equal(requests, 1);
});

/** The answers of a subscription, one by one. */
function listen(client) {
  const ready = [];
  let wake = () => {};
  const subscription = client.subscribe({ query: WATCH, variables: { tenantId: server.tenantId } }).subscribe({
    next: (answer) => (ready.push(answer), wake()),
    error: (error) => (ready.push({ error }), wake()),
  });
  const next = async () => {
    while (ready.length === 0) await new Promise((resolve) => (wake = resolve));
    const { data, error } = ready.shift();
    if (error) throw error;
    return data.metricsUpdated.ordersCount;
  };
  return { next, end: () => subscription.unsubscribe() };
}

test('a subscription by multipart HTTP', async () => {
  const { next, end } = listen(clientOf(http()));
  const first = await next();
  await server.sell('apollo-multipart');
  assert.equal(await next(), first + 1);
  end();
});

test('a subscription by WebSocket', async () => {
  const ws = createClient({
    url: server.socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: server.authorization },
  });
  const { next, end } = listen(clientOf(new GraphQLWsLink(ws)));
  const first = await next();
  await server.sell('apollo-ws');
  assert.equal(await next(), first + 1);
  end();
  await ws.dispose();
});
