// Opens the GraphiQL page of a running server in a headless Chromium and uses it:
//
//   BASE_URL=http://127.0.0.1:4000 TOKEN=... node e2e/graphiql.mjs [screenshot.png]
//
// The token's user must be allowed to record events: one is recorded to see the
// subscription move. CHROMIUM names the browser, else it is /usr/bin/chromium.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const { BASE_URL, TOKEN, CHROMIUM = '/usr/bin/chromium' } = process.env;
const screenshot = process.argv[2];
assert(BASE_URL && TOKEN, 'BASE_URL and TOKEN must be set');
const { host } = new URL(BASE_URL);

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  // Without these Chromium itself asks for hosts of its maker.
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
  await withToken();
  await withoutToken();
} finally {
  await browser.close();
}
console.log('graphiql: ok');

async function withToken() {
  const { page, faults } = await openPage(`#token=${TOKEN}`);
  try {
    assert(!page.url().includes('token'), 'the token is still in the address bar');
    await run(page);
    const first = await answer(page, /"totalRevenue"/);
    assert.match(first, /^{\s*"data"/);

    await page.reload();
    await ready(page);
    await page.getByRole('tab', { name: 'FirstSubscription' }).click();
    await run(page);
    const before = position(await answer(page, /"position"/));
    await recordOrder();
    // An update may be on its way from others too, so any later position will do.
    await answer(page, (text) => /"position"/.test(text) && position(text) > before);
  } finally {
    if (screenshot) await page.screenshot({ path: screenshot });
  }
  assert.deepEqual(faults, []);
}

async function withoutToken() {
  const { page, faults } = await openPage('');
  await run(page);
  await answer(page, /"hint": "SalesPulse answers only to a token/);
  // Chromium reports a 401 as an error of the page.
  assert.deepEqual(faults.filter((fault) => !fault.includes('401')), []);
}

/** A fresh profile on the page, and what went wrong on it so far. */
async function openPage(fragment) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 } });
  const page = await context.newPage();
  page.setDefaultTimeout(20_000);
  const faults = [];
  const check = (url) => {
    const { protocol, host: asked } = new URL(url);
    if (!['data:', 'blob:'].includes(protocol) && asked !== host) faults.push(`asked for ${url}`);
  };
  context.on('request', (request) => check(request.url()));
  page.on('websocket', (socket) => check(socket.url()));
  page.on('pageerror', (error) => faults.push(String(error)));
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && faults.push(message.text()));
  await page.goto(`${BASE_URL}/graphiql${fragment}`);
  await ready(page);
  return { page, faults };
}

/** All four panes are editors. A click before that finds GraphiQL half awake. */
async function ready(page) {
  await page.locator('.graphiql-container .monaco-editor .view-lines').nth(3).waitFor({ state: 'attached' });
}

async function run(page) {
  await page.locator('.graphiql-execute-button').click();
}

/** The text of the answer's pane, as far as it is in view, once it fits `wanted`. */
async function answer(page, wanted) {
  const pane = page.locator('.graphiql-response .view-lines');
  const fits = wanted instanceof RegExp ? (text) => wanted.test(text) : wanted;
  let text = '';
  for (const end = Date.now() + 20_000; Date.now() < end; await page.waitForTimeout(50)) {
    text = (await pane.innerText()).replaceAll('\u00a0', ' ');
    if (fits(text)) return text;
  }
  return assert.fail(`the answer is still:\n${text}`);
}

function position(text) {
  return Number(/"position": "(\d+)"/.exec(text)?.[1]);
}

async function recordOrder() {
  const id = `e2e-${Date.now()}`;
  const event = { eventId: id, occurredAt: new Date().toISOString(), orderPlaced: { orderId: id, amount: '12.50' } };
  const response = await fetch(`${BASE_URL}/graphql`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'application/graphql-response+json', Authorization: `Bearer ${TOKEN}` },
    body: JSON.stringify({
      query: 'mutation ($events: [SalesEventInput!]!) { recordEvents(events: $events) { results { outcome reason } } }',
      variables: { events: [event] },
    }),
  });
  const result = await response.json();
  assert.equal(result.data?.recordEvents.results[0].outcome, 'APPLIED', JSON.stringify(result));
}
