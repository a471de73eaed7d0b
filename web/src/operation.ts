import { getOperationAST, parse, type OperationDefinitionNode } from 'graphql';

/** The operation that would run; null while the document has none or more than one that fits. */
export function findOperation(document: string, name?: string | null): OperationDefinitionNode | null {
  try {
    return getOperationAST(parse(document), name) ?? null;
  } catch {
    return null;
  }
}

export function hasVariable(operation: OperationDefinitionNode | null, name: string): boolean {
  return operation?.variableDefinitions?.some((definition) => definition.variable.name.value === name) ?? false;
}
