import { expect, test } from 'vitest';
import { tenantOf } from '../src/headers';

const token = (claims: object) => ['e30', Buffer.from(JSON.stringify(claims)).toString('base64url'), 'sig_-'].join('.');

test('the tenant is read from the token in a Headers pane', () => {
  // The bytes of these claims use both letters that base64url has of its own.
  const claims = { tenantId: 'acme', name: '~~~???>>>' };
  expect(tenantOf(`{ "authorization": "Bearer ${token(claims)}" }`)).toBe('acme');
});

test('a pane without a token has no tenant', () => {
  expect(tenantOf('')).toBeNull();
  expect(tenantOf('{ "Authorization": "Bearer <run: salespulse token>" }')).toBeNull();
  expect(tenantOf('{ "Authorization": "Bearer e30.e30.e30" }')).toBeNull();
  expect(tenantOf('{ "Authorization": "Bearer a.b.c" }')).toBeNull();
});
