// Python's gql, in a virtual environment that `make test-clients` makes; see python/test_gql.py.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startServer } from './server.mjs';

const folder = fileURLToPath(new URL('../python', import.meta.url));
const python = `${folder}/.venv/bin/python`;
// In CI it fails instead.
const skip = existsSync(python) || process.env.CI ? false : 'no virtual environment in tests/clients/python/.venv';

let server;
before(async () => {
  if (!skip) server = await startServer();
});
after(() => server?.stop());

test('queries and subscriptions', { skip }, async () => {
  const { url, socketUrl, authorization, tenantId } = server;
  const env = { PATH: process.env.PATH, URL: url, SOCKET_URL: socketUrl, AUTHORIZATION: authorization, TENANT_ID: tenantId };
  await promisify(execFile)(python, ['test_gql.py'], { cwd: folder, env });
});
