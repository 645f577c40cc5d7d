import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import type { CliContext } from '../context.ts';
import { examineMachine, type Finding } from '../support/machine-findings.ts';

const EXAMPLES = `
Examples:
  ingot doctor
  ingot doctor --json | jq '.[] | select(.isOk | not)'

The status is 0 when everything is there and 57 when something is missing. What is missing only
takes away what its line says.
`;

/** `ingot doctor`: what this machine has, what is missing, and what gets it. */
export function registerDoctor(program: Command, context: CliContext): void {
  program
    .command('doctor')
    .description('show what this machine has, what is missing, and the command that gets it')
    .option('--data <dir>', 'the data directory whose space is looked at')
    .option('--profile <name>', 'the daemon that is looked for')
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const findings = await examineMachine(context, options);
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify(findings, null, 2)}\n`
          : findings.map(lineOf).join(''),
      );
      const missing = findings.filter((finding) => !finding.isOk).map(({ name }) => name);
      if (missing.length === 0) return;
      throw new IngotError('tool-missing', `not here: ${missing.join(', ')}`);
    });
}

function lineOf({ name, isOk, detail, fix }: Finding): string {
  const word = isOk ? 'ok' : 'missing';
  const line = `${word.padEnd(8)} ${name.padEnd(12)} ${detail}\n`;
  return isOk || fix === undefined ? line : `${line}${' '.repeat(22)}get it: ${fix}\n`;
}
