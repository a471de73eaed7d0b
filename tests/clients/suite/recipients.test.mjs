// Alerts reach a real mail server (smtp-server) and a webhook that checks signatures (standardwebhooks).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { after, before, test } from 'node:test';
import { SMTPServer } from 'smtp-server';
import { Webhook } from 'standardwebhooks';
import { startServer } from './server.mjs';

const SECRET = `whsec_${Buffer.from('a secret of the tests, thirty-two').toString('base64')}`;

/** A promise to be fulfilled from outside. */
function promised() {
  let resolve;
  const promise = new Promise((fulfil) => (resolve = fulfil));
  return { promise, resolve };
}

let server;
const mails = promised();
const hooks = promised();
const mailServer = new SMTPServer({
  authOptional: true,
  disabledCommands: ['STARTTLS'],
  onData(stream, session, callback) {
    let text = '';
    stream.on('data', (chunk) => (text += chunk));
    stream.on('end', () => {
      mails.resolve({ text, from: session.envelope.mailFrom.address, to: session.envelope.rcptTo.map((to) => to.address) });
      callback();
    });
  },
});
const hookServer = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  response.writeHead(204).end();
  hooks.resolve({ headers: request.headers, body });
});

before(async () => {
  mailServer.listen(0, '127.0.0.1');
  hookServer.listen(0, '127.0.0.1');
  await Promise.all([once(mailServer.server, 'listening'), once(hookServer, 'listening')]);
  server = await startServer({
    SALESPULSE_PUBLIC_URL: "http://localhost:4000",
    SALESPULSE_SMTP_URL: `smtp://127.0.0.1:${mailServer.server.address().port}`,
    SALESPULSE_MAIL_FROM: 'SalesPulse <alerts@example.com>',
    SALESPULSE_PRIVATE_WEBHOOKS: 'on',
  });
});

after(async () => {
  await server.stop();
  await new Promise((resolve) => mailServer.close(resolve));
  hookServer.close();
});

test('an alert reaches its recipients', { timeout: 30_000 }, async () => {
  const query = `mutation ($recipients: [AlertRecipientInput!]) {
    createAlert(input: { name: "Küche \u2713", metric: ORDERS_COUNT, condition: ABOVE, threshold: "0", includeOpen: true, recipients: $recipients }) { id }
  }`;
  const recipients = [
    { channel: 'EMAIL', target: 'owner@example.com' },
    { channel: 'WEBHOOK', target: `http://127.0.0.1:${hookServer.address().port}/alerts`, secret: SECRET },
  ];
  const response = await fetch(server.url, {
    method: 'POST',
    headers: { ...server.headers, 'content-type': 'application/json' },
    body: JSON.stringify({ query, variables: { recipients } }),
  });
  assert.equal((await response.json()).errors, undefined);
  await server.sell('first');

  const mail = await mails.promise;
  assert.equal(mail.from, 'alerts@example.com');
  assert.deepEqual(mail.to, ['owner@example.com']);
  assert.match(mail.text, /^Subject: .*FIRING/m);
  assert.match(mail.text, /ORDERS_COUNT: 1\.00/);

  const hook = await hooks.promise;
  const { type, alert } = new Webhook(SECRET).verify(hook.body, hook.headers);
  assert.equal(type, 'alert.firing');
  assert.equal(alert.name, 'Küche ✓');
  assert.equal(alert.value, '1.00');
  assert.throws(() => new Webhook(SECRET).verify(hook.body.replace('1.00', '2.00'), hook.headers));
});
