// Every audit of graphql-http, the reference suite of GraphQL over HTTP.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { serverAudits } from 'graphql-http';
import { startServer } from './server.mjs';

let server;
before(async () => (server = await startServer()));
after(() => server.stop());

const url = () => server.url;
const fetchFn = (input, init = {}) =>
  fetch(input, { ...init, headers: { ...init.headers, authorization: server.authorization } });

for (const audit of serverAudits({ url, fetchFn })) {
  test(`${audit.id} ${audit.name}`, async () => {
    const result = await audit.fn();
    if (result.status !== 'ok') assert.fail(`${result.status}: ${result.reason}`);
  });
}
