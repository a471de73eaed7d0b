// urql: queries, persisted queries, subscriptions over server-sent events.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, fetchExchange, gql } from '@urql/core';
import { persistedExchange } from '@urql/exchange-persisted';
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
const client = (exchanges, options = {}) =>
  new Client({ url: server.url, fetchOptions: { headers: server.headers }, exchanges, preferGetMethod: false, ...options });

test('a query', async () => {
  const { data, error } = await client([fetchExchange]).query(ME, {}).toPromise();
  assert.equal(error, undefined);
  assert.equal(data.me.role, 'ADMIN');
});

test('a document by its hash', async () => {
  for (const preferGetForPersistedQueries of [false, true]) {
    const exchanges = [persistedExchange({ preferGetForPersistedQueries }), fetchExchange];
    const { data, error } = await client(exchanges).query(ME, {}).toPromise();
    assert.equal(error, undefined);
    assert.equal(data.me.role, 'ADMIN');
  }
});

test('errors have their codes', async () => {
  const { error } = await client([fetchExchange]).query(gql`{ nothing }`, {}).toPromise();
  assert.equal(error.graphQLErrors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');
});

test('a subscription over the fetch exchange', async () => {
  const WATCH = gql`
    subscription Watch($tenantId: ID!) {
      metricsUpdated(tenantId: $tenantId) {
        ordersCount
      }
    }
  `;
  // When it is told to end, urql aborts its request and leaves the rejection to nobody; so the request is left to the
  // end of the server.
  const fetchOn = (input, { signal: _, ...init }) => fetch(input, init);
  const urql = client([fetchExchange], { fetchSubscriptions: true, fetch: fetchOn });
  const counts = [];
  let sold = false;
  await new Promise((resolve, reject) => {
    const { unsubscribe } = urql.subscription(WATCH, { tenantId: server.tenantId }).subscribe(({ data, error }) => {
      if (error) return reject(error);
      counts.push(data.metricsUpdated.ordersCount);
      if (!sold) {
        sold = true;
        server.sell('urql-1').catch(reject);
      } else {
        unsubscribe();
        resolve();
      }
    });
  });
  assert.deepEqual(counts, [0, 1]);
});
