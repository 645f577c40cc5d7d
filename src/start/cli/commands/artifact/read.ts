import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../../context.ts';
import { openVerificationKey, withKeyOptions } from './key-options.ts';
import { readArtifactFile } from './open-artifact.ts';
import { artifactJson, artifactText } from './read-report.ts';

const EXAMPLES = `
Examples:
  ingot artifact read release-1.mender
  ingot artifact read --json release-1.mender | jq .provides
`;

/** `ingot artifact read`. */
export function registerRead(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('read')
    .description('show what an artifact holds; every digest is checked')
    .argument('<file>', 'the artifact');
  withKeyOptions(bare, 'public key to check the signature with')
    .option('--no-progress', 'no progress on stderr')
    .option('--json', 'as JSON, one line')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options) => {
      const key = await openVerificationKey(options);
      const read = { key, progress: options.progress };
      const found = await readArtifactFile(file, read, context);
      for (const notice of found.notices) context.stderr.write(`warning: ${notice}\n`);
      context.stdout.write(options.json === true ? artifactJson(found) : artifactText(found));
    });
}
