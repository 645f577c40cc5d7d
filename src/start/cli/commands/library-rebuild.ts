import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../context.ts';
import { openOfflineLibrary } from '../support/offline-library.ts';

const EXAMPLES = `
Examples:
  systemctl stop ingot && ingot library rebuild && systemctl start ingot
  ingot library rebuild --data /srv/images

No daemon may run on the directory. Nothing is removed; the old index is put aside.
`;

/** `ingot library rebuild`: makes the index again from packs and manifests. */
export function registerLibraryRebuild(library: Command, context: CliContext): void {
  library
    .command('rebuild')
    .description('make the index again from packs and manifests, without a daemon')
    .option('--data <dir>', 'the data directory')
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      await using opened = await openOfflineLibrary(context, { ...options, isRebuild: true });
      const { images, chunks, packs } = await opened.library.stats();
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify({ images, chunks, packs })}\n`
          : `The index has ${images} images, ${chunks} chunks and ${packs} packs again.\n`,
      );
    });
}
