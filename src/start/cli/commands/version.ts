import type { Command } from '@commander-js/extra-typings';
import packageFacts from '../../../../package.json' with { type: 'json' };
import type { CliContext } from '../context.ts';

/** `ingot version` and `ingot --version`. */
export function registerVersion(program: Command, context: CliContext): void {
  program.version(packageFacts.version, '-V, --version', 'show the version and exit');
  program
    .command('version')
    .description('show the version of ingot and of Node')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExample:\n  ingot version --json\n')
    .action((options) => {
      const facts = { ingot: packageFacts.version, node: process.versions.node };
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify(facts)}\n`
          : `ingot ${facts.ingot} (Node ${facts.node})\n`,
      );
    });
}
