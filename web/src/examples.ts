import { findOperation, hasVariable } from './operation';

// The test suite runs these same files.
const documents = import.meta.glob<string>('../../tests/operations/*.graphql', { query: '?raw', import: 'default', eager: true });
const variables = import.meta.glob<string>('../../tests/operations/*.variables.json', { query: '?raw', import: 'default', eager: true });

export interface Example {
  query: string;
  variables: string | null;
}

/** What cannot be undone is not a click away. */
const isForGood = (path: string) => path.includes('/erase-');

/** The operations that a fresh page opens with: first steps first, the others by name. */
export function examples(tenantId: string | null): Example[] {
  const rank = (path: string) => (path.includes('/first-') ? 0 : 1);
  return Object.keys(documents)
    .filter((path) => !isForGood(path))
    .sort((a, b) => rank(a) - rank(b) || a.localeCompare(b))
    .map((path) => {
      const query = documents[path]!;
      const own = variables[path.replace(/\.graphql$/, '.variables.json')] ?? null;
      return { query, variables: hasVariable(findOperation(query), 'tenantId') ? fillTenant(own, tenantId) : own };
    });
}

function fillTenant(variables: string | null, tenantId: string | null): string {
  return JSON.stringify({ ...JSON.parse(variables ?? '{}'), tenantId: tenantId ?? '' }, null, 2);
}
