// Relay: its compiler takes the contract, its runtime pages through a connection and follows a subscription.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import relay from 'relay-runtime';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { startServer } from './server.mjs';

const { Environment, Network, Observable, RecordSource, Store, fetchQuery, requestSubscription } = relay;
const folder = fileURLToPath(new URL('..', import.meta.url));

let server;
let artifacts;
before(async () => {
  execFileSync('node_modules/.bin/relay-compiler', ['relay/relay.config.json'], { cwd: folder, stdio: 'pipe' });
  const artifact = async (name) =>
    (await import(pathToFileURL(`${folder}relay/src/__generated__/${name}.graphql.js`))).default;
  artifacts = {
    query: await artifact('operationsOrdersQuery'),
    subscription: await artifact('operationsWatchSubscription'),
  };
  server = await startServer();
});
after(() => server.stop());

const post = async ({ text }, variables) => {
  const response = await fetch(server.url, {
    method: 'POST',
    headers: { ...server.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ query: text, variables }),
  });
  return response.json();
};

test('pages of a connection', async () => {
  for (const n of [1, 2, 3]) await server.sell(`relay-${n}`);
  const environment = new Environment({ network: Network.create(post), store: new Store(new RecordSource()) });
  const page = (variables) => fetchQuery(environment, artifacts.query, variables).toPromise();
  await page({ first: 2, after: null });
  const connection = () => environment.getStore().getSource().get('client:root:__operationsOrders_orders_connection');
  const records = environment.getStore().getSource();
  const pageInfo = records.get(connection().pageInfo.__ref);
  assert.equal(connection().edges.__refs.length, 2);
  assert.equal(pageInfo.hasNextPage, true);
  await page({ first: 2, after: pageInfo.endCursor });
  assert.equal(connection().edges.__refs.length, 3);
  assert.equal(records.get(connection().pageInfo.__ref).hasNextPage, false);
});

test('a subscription', async () => {
  const ws = createClient({
    url: server.socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: server.authorization },
  });
  const subscribe = ({ text }, variables) => Observable.create((sink) => ws.subscribe({ query: text, variables }, sink));
  const environment = new Environment({ network: Network.create(post, subscribe), store: new Store(new RecordSource()) });
  const counts = [];
  await new Promise((resolve, reject) => {
    const { dispose } = requestSubscription(environment, {
      subscription: artifacts.subscription,
      variables: { tenantId: server.tenantId },
      onError: reject,
      onNext: ({ metricsUpdated }) => {
        counts.push(metricsUpdated.ordersCount);
        if (counts.length === 1) return void server.sell('relay-live').catch(reject);
        dispose();
        resolve();
      },
    });
  });
  assert.equal(counts[1], counts[0] + 1);
  await ws.dispose();
});
