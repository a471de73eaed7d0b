// A provider of OpenID Connect (oidc-provider) with its own sign-in pages, and a browser that goes through them.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { SignJWT, decodeJwt, importJWK } from 'jose';
import Provider from 'oidc-provider';

function newKey() {
  const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
  return { ...jwk, alg: 'RS256', use: 'sig', kid: Math.random().toString(36).slice(2) };
}

/** `people` are claims by subject, who also sign in by that name. */
export async function startProvider(redirectUri) {
  const secret = 'a secret of the provider and its client';
  const state = { people: {}, isDown: false, forge: null };
  let key, callback;
  const server = createServer((request, response) => {
    if (state.isDown) return request.socket.destroy();
    if (state.forge && request.url === '/token') forging(response);
    callback(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${server.address().port}`;

  /** Another key from now on; sign-ins that go on begin anew. */
  function rotate() {
    key = newKey();
    const provider = new Provider(issuer, {
      clients: [{ client_id: 'salespulse', client_secret: secret, redirect_uris: [redirectUri] }],
      findAccount: (_, sub) => sub in state.people && { accountId: sub, claims: () => ({ sub, ...state.people[sub] }) },
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
      pkce: { required: () => true },
      cookies: { keys: ['of the tests'] },
      jwks: { keys: [key] },
      ttl: { AccessToken: 60, AuthorizationCode: 60, Grant: 600, IdToken: 600, Interaction: 600, Session: 600 },
    });
    callback = provider.callback();
  }

  /** Changes the ID token of an answer; `state.forge(claims)` gives claims, and the header and key where they are others. */
  function forging(response) {
    const end = response.end.bind(response);
    response.end = async (body) => {
      const answer = JSON.parse(body);
      const { claims, header = { alg: 'RS256', kid: key.kid }, sign } = state.forge(decodeJwt(answer.id_token), { secret });
      const jwt = new SignJWT(claims).setProtectedHeader(header);
      answer.id_token = await jwt.sign(sign ?? (await importJWK(key, 'RS256')));
      const forged = JSON.stringify(answer);
      response.setHeader('content-length', Buffer.byteLength(forged));
      end(forged);
    };
  }

  rotate();
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return Object.assign(state, { issuer, secret, rotate, stop });
}

/** A browser with a jar of cookies, which follows no redirect by itself. */
export class Browser {
  #jars = new Map();

  /** Another one with the same cookies. */
  copy() {
    const other = new Browser();
    for (const [host, jar] of this.#jars) other.#jars.set(host, new Map(jar));
    return other;
  }

  #jar(url) {
    const { host } = new URL(url);
    if (!this.#jars.has(host)) this.#jars.set(host, new Map());
    return this.#jars.get(host);
  }

  cookie(url, name) {
    return this.#jar(url).get(name);
  }

  async go(url, options = {}) {
    const jar = this.#jar(url);
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const headers = { accept: 'text/html', ...(cookie && { cookie }), ...options.headers };
    const response = await fetch(url, { ...options, headers, redirect: 'manual' });
    for (const text of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(text);
      if (value && !/max-age=0|expires=Thu, 01 Jan 1970/i.test(text)) jar.set(name, value);
      else jar.delete(name);
    }
    return response;
  }

  /** Goes through the provider's pages as `login`; gives the URL that they lead back to. */
  async meet(page, login, provider) {
    let url = page;
    let response = await this.go(url);
    for (;;) {
      const location = response.headers.get('location');
      if (location) {
        url = new URL(location, url).href;
        if (!url.startsWith(provider.issuer)) return url;
        response = await this.go(url);
        continue;
      }
      const html = await response.text();
      const action = /action="([^"]+)"/.exec(html)?.[1];
      const prompt = /name="prompt" value="([^"]+)"/.exec(html)?.[1];
      if (!action) throw new Error(html);
      const body = new URLSearchParams({ prompt, login, password: 'any' });
      url = new URL(action, url).href;
      response = await this.go(url, { method: 'POST', body });
    }
  }
}
