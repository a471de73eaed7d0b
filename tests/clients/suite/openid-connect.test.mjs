// Signing in by OpenID Connect against a real provider (oidc-provider), through its pages.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Browser, startProvider } from './openid.mjs';
import { startServer } from './server.mjs';

const PASSWORD = 'correct horse battery staple';
const REFUSED = { status: 401, code: 'UNAUTHENTICATED' };
let server, origin, provider, company, odd, folder;
const asked = [];

async function freePort() {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port } = taken.address();
  await new Promise((resolve) => taken.close(resolve));
  return port;
}

before(async () => {
  const address = `127.0.0.1:${await freePort()}`;
  origin = `http://${address}`;
  [provider, company] = await Promise.all(['people', 'company'].map((name) => startProvider(`${origin}/auth/oidc/${name}/callback`)));
  // Providers that lead elsewhere, or never answer.
  odd = createServer((request, response) => {
    asked.push(request.url);
    if (request.url.startsWith('/leads')) response.writeHead(302, { location: `${provider.issuer}/.well-known/openid-configuration` }).end();
  });
  odd.listen(0, '127.0.0.1');
  await once(odd, 'listening');
  const table = (name, issuer, more = '') =>
    `[${name}]\ntitle = "${name}"\nissuer = "${issuer}"\nclient_id = "salespulse"\nclient_secret = "${provider.secret}"\n${more}\n`;
  const oddIssuer = `http://127.0.0.1:${odd.address().port}`;
  folder = await mkdtemp(join(tmpdir(), 'salespulse-openid-'));
  const file = join(folder, 'providers.toml');
  await writeFile(file, [
    table('people', provider.issuer),
    table('company', company.issuer, 'tenant = "acme"\ncreate = { role = "viewer", domains = ["acme.example"] }'),
    table('leads', `${oddIssuer}/leads`),
    table('silent', `${oddIssuer}/silent`),
  ].join(''), { mode: 0o600 });
  server = await startServer({ SALESPULSE_LISTEN: address, SALESPULSE_PUBLIC_URL: origin, SALESPULSE_OIDC_PROVIDERS: file });
});

after(async () => {
  await server?.stop();
  for (const each of [provider, company]) each?.stop();
  odd?.closeAllConnections();
  odd?.close();
  await rm(folder, { recursive: true });
});

/** The page of a provider for a sign-in that begins. */
async function leave(browser, path = '/auth/oidc/people?tenant=acme&to=/graphiql') {
  const response = await browser.go(`${origin}${path}`);
  assert.equal(response.status, 303, await response.clone().text());
  return response.headers.get('location');
}

/** Where a browser is led in the end. */
async function signIn(browser, login, { path, at = provider } = {}) {
  return browser.go(await browser.meet(await leave(browser, path), login, at));
}

async function told(response) {
  const { errors } = await response.json();
  return { status: response.status, code: errors[0].extensions.code };
}

/** How a sign-in is refused, as a program is told. */
async function refusal(login, options = {}) {
  const browser = new Browser();
  const back = await browser.meet(await leave(browser, options.path), login, options.at ?? provider);
  return told(await browser.go(back, { headers: { accept: 'application/json' } }));
}

/** An access token of the session that a browser has. */
async function tokenOf(browser) {
  const csrf = browser.cookie(origin, '__Host-salespulse-csrf');
  const response = await browser.go(`${origin}/auth/refresh`, { method: 'POST', headers: { 'x-csrf-token': csrf } });
  assert.equal(response.status, 200, await response.clone().text());
  return `Bearer ${(await response.json()).accessToken}`;
}

async function invite(name) {
  const query = `mutation ($input: InvitationInput!) { inviteUser(input: $input) { user { id } } }`;
  const input = { name, email: `${name}@acme.example`, role: 'ANALYST' };
  return (await server.ask(query, { input })).inviteUser.user.id;
}

function person(name, more = {}) {
  provider.people[name] = { email: `${name}@acme.example`, email_verified: true, name, ...more };
}

async function isRefusedFor(forge) {
  provider.forge = forge;
  try {
    return await refusal('forged');
  } finally {
    provider.forge = null;
  }
}

test('who was invited comes in by a verified address, and then by the identity', async () => {
  const id = await invite('ann');
  person('ann', { email: 'Ann@Acme.example' });
  const browser = new Browser();
  const page = new URL(await leave(browser));
  assert.equal(page.searchParams.get('code_challenge_method'), 'S256');
  assert.equal(page.searchParams.get('redirect_uri'), `${origin}/auth/oidc/people/callback`);
  const back = await browser.meet(page.href, 'ann', provider);
  assert.equal(new URL(back).searchParams.get('iss'), provider.issuer);
  const response = await browser.go(back);
  assert.deepEqual([response.status, response.headers.get('location')], [303, '/graphiql']);
  assert.equal(browser.cookie(origin, '__Host-salespulse-oidc'), undefined);
  const token = await tokenOf(browser);
  const { me, identities } = await server.ask('{ me { id role } identities { provider issuer subject } }', {}, token);
  assert.deepEqual(me, { id, role: 'ANALYST' });
  assert.deepEqual(identities, [{ provider: 'people', issuer: provider.issuer, subject: 'ann' }]);
  const { auditLog } = await server.ask('{ auditLog(first: 2) { nodes { action actor { id } after } } }');
  assert.deepEqual(auditLog.nodes, [
    { action: 'session.open', actor: { id }, after: { by: 'oidc:people' } },
    { action: 'identity.link', actor: { id }, after: { provider: 'people', issuer: provider.issuer } },
  ]);

  // The address may change, and be somebody else's then.
  person('ann', { email: 'other@acme.example', email_verified: false });
  person('thief', { email: 'ann@acme.example' });
  const again = new Browser();
  assert.equal((await signIn(again, 'ann')).status, 303);
  assert.equal((await server.ask('{ me { id } }', {}, await tokenOf(again))).me.id, id);
  assert.deepEqual(await refusal('thief'), REFUSED);
});

test('whoever may not come in is told the same', async () => {
  await invite('bob');
  person('bob', { email_verified: false });
  person('nobody');
  person('admin2', { email: undefined });
  for (const login of ['bob', 'nobody', 'admin2']) assert.deepEqual(await refusal(login), REFUSED, login);
  assert.deepEqual(await refusal('nobody', { path: '/auth/oidc/people?tenant=none' }), REFUSED);

  person('bob');
  const browser = new Browser();
  assert.equal((await signIn(browser, 'bob')).status, 303);
  const token = await tokenOf(browser);
  const { me } = await server.ask('{ me { id } }', {}, token);
  await server.ask(`mutation ($id: ID!) { updateUser(id: $id, input: { isActive: false }) { state } }`, { id: me.id });
  assert.deepEqual(await refusal('bob'), REFUSED);
  await assert.rejects(server.ask('{ me { id } }', {}, token), /UNAUTHENTICATED/);

  // A person is told on a page.
  const page = await signIn(new Browser(), 'bob');
  assert.equal(page.status, 401);
  assert.match(page.headers.get('content-security-policy'), /default-src 'none'/);
  assert.match(await page.text(), /You are not signed in/);
});

test('an account with a password is linked by its user alone', async () => {
  await server.tell(PASSWORD, 'user', 'create', '--tenant', 'acme', '--email', 'cay@acme.example', '--name', 'Cay', '--role', 'viewer');
  person('cay');
  assert.deepEqual(await refusal('cay'), REFUSED);

  const browser = new Browser();
  const json = { 'content-type': 'application/json' };
  const login = { method: 'POST', headers: json, body: JSON.stringify({ tenant: 'acme', email: 'cay@acme.example', password: PASSWORD }) };
  const signedIn = await browser.go(`${origin}/auth/login`, login);
  const authorization = `Bearer ${(await signedIn.json()).accessToken}`;
  const begin = (headers) => browser.go(`${origin}/auth/oidc/people/link`, { method: 'POST', headers: { ...json, ...headers }, body: '{}' });
  assert.equal((await begin({})).status, 401);
  assert.deepEqual(await told(await begin({ authorization, origin: 'http://evil.example' })), { status: 403, code: 'FORBIDDEN' });
  // An operator's token is of no session.
  assert.equal((await begin({ authorization: server.authorization })).status, 403);

  const { url } = await (await begin({ authorization })).json();
  const back = await browser.meet(url, 'cay', provider);
  // Another browser has not begun it.
  assert.equal((await new Browser().go(back)).status, 403);
  assert.equal((await browser.go(back)).status, 303);
  assert.equal((await signIn(new Browser(), 'cay')).status, 303);

  // What is somebody's is nobody else's.
  const second = (await (await begin({ authorization })).json()).url;
  assert.equal((await browser.go(await new Browser().meet(second, 'ann', provider))).status, 409);

  const unlink = `mutation ($issuer: String!, $subject: String!) { unlinkIdentity(issuer: $issuer, subject: $subject) }`;
  const cay = { issuer: provider.issuer, subject: 'cay' };
  await server.ask(unlink, cay, authorization);
  await assert.rejects(server.ask(unlink, cay, authorization), /NOT_FOUND/);
  assert.deepEqual(await refusal('cay'), REFUSED);
  const ann = new Browser();
  await signIn(ann, 'ann');
  const token = await tokenOf(ann);
  await assert.rejects(server.ask(unlink, cay, token), /NOT_FOUND/);
  await assert.rejects(server.ask(unlink, { ...cay, subject: 'ann' }, token), /CONFLICT/);
});

test('no identity of a tenant\'s own provider is linked in another tenant', async () => {
  await server.tell('', 'tenant', 'create', 'other', '--currency', 'EUR');
  await server.tell(PASSWORD, 'user', 'create', '--tenant', 'other', '--email', 'cay@other.example', '--name', 'Cay', '--role', 'viewer');
  const post = (path, headers, body) =>
    fetch(`${origin}${path}`, { method: 'POST', headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  const signedIn = await post('/auth/login', {}, { tenant: 'other', email: 'cay@other.example', password: PASSWORD });
  const authorization = `Bearer ${(await signedIn.json()).accessToken}`;
  assert.deepEqual(await told(await post('/auth/oidc/company/link', { authorization }, {})), { status: 400, code: 'BAD_USER_INPUT' });
  assert.equal((await post('/auth/oidc/people/link', { authorization }, {})).status, 200);
});

test('nobody is made a user but where the operator says so', async () => {
  const newcomer = { email: 'dan@acme.example', email_verified: true, name: 'Dan' };
  company.people.dan = newcomer;
  company.people.eve = { ...newcomer, email: 'eve@evil.example' };
  company.people.fay = { ...newcomer, email: 'fay@acme.example', email_verified: false };
  const options = { path: '/auth/oidc/company', at: company };
  const browser = new Browser();
  assert.equal((await signIn(browser, 'dan', options)).headers.get('location'), '/');
  const { me } = await server.ask('{ me { name email role } }', {}, await tokenOf(browser));
  assert.deepEqual(me, { name: 'Dan', email: 'dan@acme.example', role: 'VIEWER' });
  for (const login of ['eve', 'fay']) assert.deepEqual(await refusal(login, options), REFUSED, login);
  assert.equal((await new Browser().go(`${origin}/auth/oidc/company?tenant=other`)).status, 400);
  const list = await (await fetch(`${origin}/auth/oidc`)).json();
  assert.deepEqual(list.map(({ name, needsTenant }) => [name, needsTenant]).slice(0, 1), [['company', false]]);
});

test('a sign-in is finished once, by the browser that began it', async () => {
  const browser = new Browser();
  const back = await browser.meet(await leave(browser), 'ann', provider);
  const stray = { status: 403, code: 'FORBIDDEN' };
  const go = async (who, url) => told(await who.go(url, { headers: { accept: 'application/json' } }));
  const changed = (name, value) => {
    const url = new URL(back);
    url.searchParams.set(name, value);
    return url.href;
  };
  assert.deepEqual(await go(new Browser(), back), stray);
  assert.deepEqual(await go(browser.copy(), changed('state', 'x'.repeat(43))), stray);
  assert.deepEqual(await go(browser.copy(), changed('iss', company.issuer)), stray);
  assert.deepEqual(await go(browser.copy(), back.replace('/people/', '/company/')), stray);
  assert.deepEqual(await go(browser.copy(), changed('error', 'access_denied')), REFUSED);
  const thief = browser.copy();
  assert.equal((await browser.go(back)).status, 303);
  assert.deepEqual(await go(browser, back), stray);
  assert.deepEqual(await go(thief, back), { status: 401, code: 'INVALID_GRANT' });
  assert.equal(thief.cookie(origin, '__Host-salespulse-refresh'), undefined);

  for (const to of ['https://evil.example', '//evil.example', '/%5Cevil.example', '/%09/evil.example']) {
    const response = await new Browser().go(`${origin}/auth/oidc/people?tenant=acme&to=${to}`);
    assert.equal(response.status, 400, to);
  }
  assert.equal((await new Browser().go(`${origin}/auth/oidc/none?tenant=acme`)).status, 404);
  assert.equal((await new Browser().go(`${origin}/auth/oidc/people`)).status, 400);
});

test('a token is the provider\'s, for this server and this sign-in, and good now', async () => {
  await invite('forged');
  person('forged');
  const invalid = { status: 401, code: 'INVALID_GRANT' };
  const now = Math.floor(Date.now() / 1000);
  const others = {
    nonce: { nonce: 'another' },
    'no nonce': { nonce: undefined },
    audience: { aud: 'another' },
    'more audiences': { aud: ['salespulse', 'another'] },
    party: { azp: 'another' },
    issuer: { iss: company.issuer },
    expired: { exp: now - 120 },
    future: { iat: now + 600, exp: now + 1200 },
  };
  for (const [what, changes] of Object.entries(others)) {
    assert.deepEqual(await isRefusedFor((claims) => ({ claims: { ...claims, ...changes } })), invalid, what);
  }
  const symmetric = (claims, { secret }) => ({ claims, header: { alg: 'HS256' }, sign: new TextEncoder().encode(secret) });
  assert.deepEqual(await isRefusedFor(symmetric), invalid);
  // The same way, unchanged, is a way in.
  provider.forge = (claims) => ({ claims });
  assert.equal((await signIn(new Browser(), 'forged')).status, 303);
  provider.forge = null;
});

test('a provider may change its keys, lead nowhere or be away', { timeout: 30_000 }, async () => {
  provider.rotate();
  assert.equal((await signIn(new Browser(), 'ann')).status, 303);

  const away = { status: 503, code: 'SERVICE_UNAVAILABLE' };
  const begin = async (name) =>
    told(await new Browser().go(`${origin}/auth/oidc/${name}?tenant=acme`, { headers: { accept: 'application/json' } }));
  assert.deepEqual(await begin('leads'), away);
  const began = Date.now();
  assert.deepEqual(await Promise.all([begin('silent'), begin('silent'), begin('silent')]), [away, away, away]);
  assert.ok(Date.now() - began < 9_000, 'they wait once');
  assert.deepEqual(asked, ['/leads/.well-known/openid-configuration', '/silent/.well-known/openid-configuration']);

  const browser = new Browser();
  const back = await browser.meet(await leave(browser), 'ann', provider);
  provider.isDown = true;
  assert.deepEqual(await told(await browser.copy().go(back, { headers: { accept: 'application/json' } })), away);
  provider.isDown = false;
  assert.equal((await browser.go(back)).status, 303);
});
