/**
 * The import guard: runs dependency-cruiser with the flow's rules, and counts what it saw.
 *
 * The count is part of the guard. A cruiser that finds no TypeScript compiler that it can use sees
 * no module at all and reports that nothing is wrong.
 */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { join } from 'node:path';

const PROGRAM = join(
  import.meta.dirname,
  '../node_modules/dependency-cruiser/bin/dependency-cruiser.mjs',
);

interface CruiseResult {
  readonly summary: {
    readonly totalCruised: number;
    readonly violations: readonly {
      readonly rule: { readonly name: string };
      readonly from: string;
      readonly to: string;
    }[];
  };
}

/**
 * Checks the imports of `src/` below `root`, which holds `flow.json` and the guard's configuration.
 *
 * @param moduleCount how many modules it must see at least; by default the files of `src/`
 * @returns one line per problem; none when all is well
 */
export function importProblems(
  root: string,
  moduleCount: number = globSync('src/**/*.ts', { cwd: root }).length,
): string[] {
  const run = spawnSync(
    process.execPath,
    [PROGRAM, '--config', '.dependency-cruiser.cjs', '--output-type', 'json', 'src'],
    { cwd: root, encoding: 'utf8', maxBuffer: 256 * 1024 * 1024, timeout: 120_000 },
  );
  let result: CruiseResult;
  try {
    result = JSON.parse(run.stdout);
  } catch (cause) {
    throw new Error(`dependency-cruiser gave no result: ${run.stderr}`, { cause });
  }
  const { totalCruised, violations } = result.summary;
  const problems = violations.map(({ rule, from, to }) => `${rule.name}: ${from} -> ${to}`);
  if (totalCruised < moduleCount) {
    problems.push(`too-few-modules: the guard saw ${totalCruised} of ${moduleCount} modules`);
  }
  return problems;
}

if (import.meta.main) {
  const problems = importProblems(join(import.meta.dirname, '..'));
  for (const problem of problems) process.stderr.write(`${problem}\n`);
  process.exitCode = problems.length === 0 ? 0 : 1;
}
