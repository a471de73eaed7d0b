// graphql-ws, the reference client of graphql-transport-ws.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CloseCode, createClient } from 'graphql-ws';
import WebSocket from 'ws';
import { startServer } from './server.mjs';

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const client = (options = {}) =>
  createClient({
    url: server.socketUrl,
    webSocketImpl: WebSocket,
    connectionParams: { Authorization: server.authorization },
    retryAttempts: 0,
    lazyCloseTimeout: 0,
    ...options,
  });

const watch = () => ({
  query: 'subscription ($tenantId: ID!) { metricsUpdated(tenantId: $tenantId) { ordersCount totalRevenue } }',
  variables: { tenantId: server.tenantId },
});

test('a query is one answer', async () => {
  const ws = client();
  const answers = [];
  for await (const answer of ws.iterate({ query: '{ me { role } }' })) answers.push(answer);
  assert.deepEqual(answers, [{ data: { me: { role: 'ADMIN' } } }]);
  await ws.dispose();
});

test('a subscription gives what is, then what changes', async () => {
  const ws = client();
  const answers = ws.iterate(watch());
  const first = (await answers.next()).value.data.metricsUpdated;
  await server.sell('ws-1');
  const second = (await answers.next()).value.data.metricsUpdated;
  assert.equal(second.ordersCount, first.ordersCount + 1);
  assert.equal(Number(second.totalRevenue), Number(first.totalRevenue) + 10);
  await answers.return();
  await ws.dispose();
});

test('errors of a request are told as such', async () => {
  const ws = client();
  for (const query of ['{', '{ nothing }']) {
    await assert.rejects(
      (async () => {
        for await (const _ of ws.iterate({ query }));
      })(),
      (errors) => Array.isArray(errors) && typeof errors[0].extensions.code === 'string',
    );
  }
  // The socket is still good.
  const answers = ws.iterate({ query: '{ me { role } }' });
  assert.equal((await answers.next()).value.data.me.role, 'ADMIN');
  await ws.dispose();
});

test('a bad token closes with 4403, and a good one may follow', async () => {
  const codes = [];
  const ws = client({ connectionParams: { Authorization: 'Bearer nonsense' }, on: { closed: ({ code }) => codes.push(code) } });
  await assert.rejects(
    (async () => {
      for await (const _ of ws.iterate({ query: '{ me { role } }' }));
    })(),
  );
  assert.deepEqual(codes, [CloseCode.Forbidden]);
  await ws.dispose();

  let attempts = 0;
  const retrying = client({
    retryAttempts: 3,
    retryWait: async () => {},
    shouldRetry: () => true,
    connectionParams: () => ({ Authorization: attempts++ === 0 ? 'Bearer old' : server.authorization }),
  });
  const answers = retrying.iterate({ query: '{ me { role } }' });
  assert.equal((await answers.next()).value.data.me.role, 'ADMIN');
  assert.equal(attempts, 2);
  await retrying.dispose();
});

test('a subscription goes on after a restart of the server', async () => {
  const ws = client({ retryAttempts: 20, retryWait: () => sleep(250) });
  const answers = ws.iterate(watch());
  const { ordersCount } = (await answers.next()).value.data.metricsUpdated;
  await server.restart();
  await server.sell('ws-after-restart');
  // The first answer of the new server may be from before the sale.
  let answer;
  do {
    answer = await answers.next();
    assert.equal(answer.done, false);
  } while (answer.value.data.metricsUpdated.ordersCount === ordersCount);
  assert.equal(answer.value.data.metricsUpdated.ordersCount, ordersCount + 1);
  await answers.return();
  await ws.dispose();
});
