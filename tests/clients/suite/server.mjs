// A server of its own for each file of tests: a fresh SQLite database with the tenant `acme`, on a free port.
import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

const program = process.env.SALESPULSE ?? new URL('../../../target/debug/salespulse', import.meta.url).pathname;
const run = promisify(execFile);

/** `settings` are added to the server's environment. */
export async function startServer(settings = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'salespulse-clients-'));
  const env = {
    PATH: process.env.PATH,
    DATABASE_URL: `sqlite://${join(folder, 'test.db')}`,
    SALESPULSE_JWT_SECRET: 'only for the tests of clients, thirty-two bytes',
    SALESPULSE_LISTEN: '127.0.0.1:0',
    SALESPULSE_LOG_FORMAT: 'json',
    ...settings,
  };
  const command = async (...args) => (await run(program, args, { env, cwd: folder })).stdout.trim();
  /** A command that reads a line of input. */
  const tell = async (input, ...args) => {
    const running = run(program, args, { env, cwd: folder });
    running.child.stdin.end(`${input}\n`);
    await running;
  };
  await command('migrate');
  const tenantId = (await command('tenant', 'create', 'acme', '--currency', 'EUR')).split(' ')[1];
  const token = await command('token', '--tenant', 'acme', '--role', 'admin');
  let child;
  let ended;
  const serve = () => {
    child = spawn(program, ['serve'], { env, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
    ended = new Promise((resolve) => child.once('exit', resolve));
    return addressOf(child);
  };
  const address = await serve();
  const url = `http://${address}/graphql`;
  const authorization = `Bearer ${token}`;
  return {
    url,
    socketUrl: `ws://${address}/graphql`,
    authorization,
    headers: { authorization },
    tenantId,
    tell,
    /** The data of an operation, as the admin or whom `authorization` is for. */
    async ask(query, variables = {}, as = authorization) {
      const response = await fetch(url, {
        method: 'POST',
        headers: { authorization: as, 'content-type': 'application/json' },
        body: JSON.stringify({ query, variables }),
      });
      const { data, errors } = await response.json();
      if (errors) throw new Error(JSON.stringify(errors));
      return data;
    },
    /** Records one order of 10 EUR; its id must be new. */
    async sell(orderId) {
      const query = `mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) { position } }`;
      const line = { productId: 'tea', quantity: 1, amount: '10.00' };
      const occurredAt = new Date().toISOString();
      const events = [{ eventId: `placed ${orderId}`, occurredAt, orderPlaced: { orderId, lines: [line] } }];
      await this.ask(query, { events });
    },
    /** Ends the server as a deployment does, and starts it again at the same address. */
    async restart() {
      child.kill('SIGTERM');
      await ended;
      env.SALESPULSE_LISTEN = address;
      await serve();
    },
    async stop() {
      child.kill('SIGTERM');
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}

/** The address in the server's log. */
async function addressOf(child) {
  const lines = createInterface({ input: child.stderr });
  for await (const line of lines) {
    const address = /127\.0\.0\.1:\d+/.exec(line);
    if (address) {
      lines.close();
      child.stderr.resume();
      return address[0];
    }
  }
  throw new Error('the server ended');
}
