import { readFileSync } from 'node:fs';
import { buildSchema, getVariableValues, parse, validate } from 'graphql';
import { expect, test } from 'vitest';
import { examples } from '../src/examples';
import { findOperation } from '../src/operation';

const schema = buildSchema(readFileSync(new URL('../../schema.graphql', import.meta.url), 'utf8'));
const named = examples('a tenant').map((example) => ({ ...example, operation: findOperation(example.query)! }));
const names = named.map(({ operation }) => operation?.name?.value);

test('the page opens with the first steps', () => {
  expect(names.slice(0, 2)).toEqual(['FirstQuery', 'FirstSubscription']);
  expect(new Set(names).size).toBe(names.length);
});

test.each(named)('$operation.name.value fits the schema', ({ query, variables, operation }) => {
  expect(validate(schema, parse(query))).toEqual([]);
  const values = getVariableValues(schema, operation.variableDefinitions ?? [], JSON.parse(variables ?? '{}'));
  expect(values.errors).toBeUndefined();
});

test("the token's tenant is filled in where an operation asks for it", () => {
  const variables = named.find(({ operation }) => operation.name?.value === 'FirstSubscription')?.variables;
  expect(JSON.parse(variables!)).toEqual({ tenantId: 'a tenant' });
});

test('the operation named is found, else the only one', () => {
  const found = (document: string, name?: string) => findOperation(document, name)?.name?.value;
  expect(found('query A { x } query B { x }', 'B')).toBe('B');
  expect(found('query A { x } query B { x }', 'C')).toBeUndefined();
  expect(found('query A { x }', 'C')).toBe('A');
  expect(found('query A {')).toBeUndefined();
});
