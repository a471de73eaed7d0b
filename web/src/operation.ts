import { getOperationAST, parse, type OperationDefinitionNode } from 'graphql';

/**
 * The operation of that name, else the only one there is; null while there is neither.
 * For a moment after a change of tabs, GraphiQL names the operation of the tab before.
 */
export function findOperation(document: string, name?: string | null): OperationDefinitionNode | null {
  try {
    const ast = parse(document);
    return getOperationAST(ast, name) ?? getOperationAST(ast) ?? null;
  } catch {
    return null;
  }
}

export function hasVariable(operation: OperationDefinitionNode | null, name: string): boolean {
  return operation?.variableDefinitions?.some((definition) => definition.variable.name.value === name) ?? false;
}
