import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../../base/index.ts';
import type { CliContext } from '../../context.ts';
import { openVerificationKey, withKeyOptions } from './key-options.ts';
import { readArtifactFile } from './open-artifact.ts';

const EXAMPLES = `
Examples:
  ingot artifact validate release-1.mender
  ingot artifact validate -k public.pem release-1.mender
`;

/** `ingot artifact validate`. */
export function registerValidate(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('validate')
    .description('check every byte of an artifact, and its signature')
    .argument('<file>', 'the artifact');
  withKeyOptions(bare, 'public key to check the signature with')
    .option('--no-progress', 'no progress on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options) => {
      const key = await openVerificationKey(options);
      const read = { key, refuseBadNames: true, progress: options.progress };
      const { signature, notices } = await readArtifactFile(file, read, context);
      for (const notice of notices) context.stderr.write(`warning: ${notice}\n`);
      if (signature === 'wrong') {
        throw new IngotError('signature-invalid', `${file} is not signed with this key`, { file });
      }
      if (signature === 'absent' && key !== undefined) {
        throw new IngotError('artifact-not-signed', `${file} has no signature`, { file });
      }
      if (signature === 'unchecked') {
        throw new IngotError(
          'key-unusable',
          `${file} is signed, and no key to check it was given (-k)`,
          { file },
        );
      }
      context.stdout.write(`Artifact file '${file}' validated successfully\n`);
    });
}
