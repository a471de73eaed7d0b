/** Where the Headers pane outlives a reload: it holds a token, so no longer than the browser's tab. */
const KEY = 'salespulse:headers';

/**
 * The text the Headers pane opens with. A token handed over as `/graphiql#token=...` begins a
 * fresh page and is taken out of the address bar; servers never see a fragment.
 */
export function openingHeaders(): string {
  const token = new URLSearchParams(location.hash.slice(1)).get('token');
  if (token) {
    sessionStorage.clear();
    keepHeaders(bearer(token));
    history.replaceState(null, '', location.pathname + location.search);
  }
  return keptHeaders() ?? bearer('<run: salespulse token>');
}

export function keepHeaders(text: string) {
  sessionStorage.setItem(KEY, text);
}

export function keptHeaders(): string | null {
  return sessionStorage.getItem(KEY);
}

/** Laid out as "Prettify" would, which must not look like an edit. */
function bearer(token: string): string {
  return `${JSON.stringify({ Authorization: `Bearer ${token}` }, null, 2)}\n`;
}

/** The `tenantId` claim of the bearer token in `headers`; null where there is none. Only the server verifies it. */
export function tenantOf(headers: string): string | null {
  // Found by its look, so that a pane in the middle of an edit will do.
  const payload = /Bearer\s+[\w-]+\.([\w-]+)\.[\w-]+/i.exec(headers)?.[1] ?? '';
  try {
    const { tenantId } = JSON.parse(atob(payload.replace(/-/g, '+').replace(/_/g, '/')));
    return typeof tenantId === 'string' ? tenantId : null;
  } catch {
    return null;
  }
}
