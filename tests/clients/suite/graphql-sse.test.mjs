// graphql-sse in distinct connections mode, the reference client of GraphQL over server-sent events.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from 'graphql-sse';
import { startServer } from './server.mjs';

let server;
let client;
before(async () => {
  server = await startServer();
  client = createClient({ url: server.url, headers: server.headers, retryAttempts: 0 });
});
after(async () => {
  client.dispose();
  await server.stop();
});

test('a query is one answer', async () => {
  const answers = [];
  for await (const answer of client.iterate({ query: '{ me { role } }' })) answers.push(answer);
  assert.deepEqual(answers, [{ data: { me: { role: 'ADMIN' } } }]);
});

test('a subscription gives what is, then what changes', async () => {
  const answers = client.iterate({
    query: 'subscription ($tenantId: ID!) { metricsUpdated(tenantId: $tenantId) { ordersCount } }',
    variables: { tenantId: server.tenantId },
  });
  const first = (await answers.next()).value.data.metricsUpdated.ordersCount;
  await server.sell('sse-1');
  assert.equal((await answers.next()).value.data.metricsUpdated.ordersCount, first + 1);
  await answers.return();
});

test('errors of a request come as an answer', async () => {
  const answers = [];
  for await (const answer of client.iterate({ query: '{ nothing }' })) answers.push(answer);
  assert.equal(answers.length, 1);
  assert.equal(answers[0].errors[0].extensions.code, 'GRAPHQL_VALIDATION_FAILED');
});

test('a subscription goes on after a restart of the server', async () => {
  const retrying = createClient({ url: server.url, headers: server.headers, retryAttempts: 20, retry: () => sleep(250) });
  const answers = retrying.iterate({
    query: 'subscription ($tenantId: ID!) { metricsUpdated(tenantId: $tenantId) { ordersCount } }',
    variables: { tenantId: server.tenantId },
  });
  const before = (await answers.next()).value.data.metricsUpdated.ordersCount;
  await server.restart();
  await server.sell('sse-after-restart');
  // The first answer of the new server may be from before the sale.
  let answer;
  do {
    answer = await answers.next();
    assert.equal(answer.done, false);
  } while (answer.value.data.metricsUpdated.ordersCount === before);
  assert.equal(answer.value.data.metricsUpdated.ordersCount, before + 1);
  await answers.return();
  retrying.dispose();
});
