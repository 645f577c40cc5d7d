import { type Command, Option } from '@commander-js/extra-typings';
import { IngotError } from '../../../../base/index.ts';
import { planSignature } from '../../../../bytes/index.ts';
import type { CliContext } from '../../context.ts';
import { copyRange } from './copy-files.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { readArtifactFile } from './open-artifact.ts';
import { openOutput } from './output-file.ts';

const EXAMPLES = `
Examples:
  ingot artifact sign -k private.pem release-1.mender
  ingot artifact sign -k private.pem -o signed.mender release-1.mender
`;

/** `ingot artifact sign`. */
export function registerSign(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('sign')
    .description('sign an artifact that is there; its payload is copied as it is')
    .argument('<file>', 'the artifact')
    .option('-o, --output-path <file>', 'write here and leave the artifact alone; - is stdout')
    .option('-f, --force', 'sign it anew if it is signed')
    .addOption(new Option('--no-progress', 'no progress on stderr'));
  withKeyOptions(bare, 'private key to sign with')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options, command) => {
      const signer = await openSigner(options);
      if (signer === undefined) return command.error('error: --key or --key-pkcs11 is required');
      // All of it is read and checked first: a signature must not vouch for a damaged artifact.
      const found = await readArtifactFile(file, { progress: options.progress }, context);
      if (found.signature !== 'absent' && options.force !== true) {
        throw new IngotError('request-invalid', `${file} is signed already; -f signs it anew`, {
          file,
        });
      }
      const plan = planSignature(found, await signer.sign(found.manifestBytes));
      await using output = await openOutput(options.outputPath ?? file, context);
      const copy = { output, signal: context.signal };
      await copyRange(file, { from: 0, to: plan.keepToByte }, copy);
      await output.write(plan.entry);
      await copyRange(file, { from: plan.continueAtByte, to: found.sizeBytes }, copy);
      await output.commit();
    });
}
