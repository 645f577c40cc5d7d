import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import ts from 'typescript';
import { moduleText } from './module-text.ts';

const SRC = join(import.meta.dirname, '../..');

/** What the compiler says that a module imports and exports, once its types are gone. */
function namesByCompiler(source: string): { imports: string[]; exports: string[] } {
  const file = ts.createSourceFile('x.mjs', stripTypeScriptTypes(source), ts.ScriptTarget.Latest);
  const imports: string[] = [];
  const exports: string[] = [];
  for (const statement of file.statements) {
    if (ts.isImportDeclaration(statement) || ts.isExportDeclaration(statement)) {
      const from = statement.moduleSpecifier;
      if (from !== undefined && ts.isStringLiteral(from)) imports.push(from.text);
    }
    if (ts.isExportDeclaration(statement) && statement.exportClause !== undefined) {
      const clause = statement.exportClause;
      if (ts.isNamedExports(clause)) exports.push(...clause.elements.map((e) => e.name.text));
    }
    const isExported =
      ts.canHaveModifiers(statement) &&
      ts.getModifiers(statement)?.some((m) => m.kind === ts.SyntaxKind.ExportKeyword) === true;
    if (!isExported) continue;
    if (ts.isVariableStatement(statement)) {
      exports.push(...statement.declarationList.declarations.map((d) => d.name.getText(file)));
    } else if (ts.isFunctionDeclaration(statement) || ts.isClassDeclaration(statement)) {
      exports.push(statement.name?.text ?? 'default');
    }
  }
  return { imports, exports };
}

function namesByText(source: string): { imports: string[]; exports: string[] } {
  const imports: string[] = [];
  const { body } = moduleText(source, (specifier) => {
    imports.push(specifier);
    return specifier;
  });
  const offers = body.split('\n', 1)[0] ?? '';
  const exports = [...offers.matchAll(/\$give\("([^"]+)"/g)].map(([, name = '']) => name);
  return { imports, exports };
}

describe('the text of a module', () => {
  test('has the imports and exports that the compiler sees, in every module of the project', () => {
    const files = globSync('**/*.ts', { cwd: SRC }).filter((path) => !path.endsWith('.test.ts'));
    assert.ok(files.length > 400);
    for (const path of files) {
      const source = readFileSync(join(SRC, path), 'utf8');
      const expected = namesByCompiler(source);
      const found = namesByText(source);
      assert.deepEqual(new Set(found.exports), new Set(expected.exports), path);
      for (const name of expected.imports) assert.ok(found.imports.includes(name), path);
      assert.equal(
        moduleText(source, (name) => name).body.split('\n').length,
        source.split('\n').length,
        path,
      );
    }
  });

  test('refuses what it does not know, instead of misunderstanding it', () => {
    const refer = (specifier: string): string => specifier;
    for (const source of [
      'export default 1;\n',
      'export let changed = 1;\n',
      'export const { a, b } = { a: 1, b: 2 };\n',
      "export * as all from './x.ts';\n",
    ]) {
      assert.throws(() => moduleText(source, refer), /does not know/, source);
    }
  });
});
