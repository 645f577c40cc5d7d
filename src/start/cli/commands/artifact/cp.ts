import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../../base/index.ts';
import { type ImagePlace, parseImagePlace } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { chosenOrOwnCompression, compressionOption } from './compression-option.ts';
import { writeSparse } from './copy-files.ts';
import { type ChangeSetup, changeInImage, inTemporaryFolder, readInImage } from './edit-files.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { openOutputWithMode } from './output-file.ts';
import { readFilePieces } from './payload-file.ts';

const EXAMPLES = `
Examples:
  ingot artifact cp hosts release-1.mender:/etc/hosts
  ingot artifact cp release-1.mender:/etc/hosts hosts
  echo beta | ingot artifact cp - card.sdimg:/data/channel
`;

const PRIVATE = 0o600;

async function hostMode(path: string): Promise<number> {
  const status = await stat(path).catch((cause: unknown) => {
    throw new IngotError('file-not-found', `no file ${path}`, { path }, { cause });
  });
  if (!status.isFile()) {
    throw new IngotError('source-unsupported', `${path} is no regular file`, { path });
  }
  return status.mode & 0o7777;
}

/** Copies a file of the host into an image, with its mode; `-` is stdin. */
async function copyIn(source: string, place: ImagePlace, setup: ChangeSetup): Promise<void> {
  const isFolder = place.path.endsWith('/');
  if (source === '-' && isFolder) {
    throw new IngotError('request-invalid', 'from stdin, the file in the image must be named');
  }
  const target = isFolder ? { ...place, path: join(place.path, basename(source)) } : place;
  await inTemporaryFolder(setup.tmp, async (folder) => {
    let hostFile = source;
    let mode = PRIVATE;
    if (source === '-') {
      hostFile = join(folder, 'stdin');
      const pieces = setup.context.stdin as AsyncIterable<Buffer>;
      await writeSparse(hostFile, pieces, setup.context.signal);
    } else {
      mode = await hostMode(source);
    }
    const attributes = { mode, userId: 0, groupId: 0 };
    await changeInImage(target, (editor, path) => editor.copyIn(hostFile, path, attributes), setup);
  });
}

/** Copies a file of an image to the host, with its mode. */
async function copyOut(place: ImagePlace, target: string, context: CliContext): Promise<void> {
  const isFolder = await stat(target).then(
    (status) => status.isDirectory(),
    () => false,
  );
  const hostFile = isFolder ? join(target, basename(place.path)) : target;
  await inTemporaryFolder(undefined, async (folder) => {
    const copy = join(folder, 'file');
    let mode = PRIVATE;
    await readInImage(
      place,
      async (editor, path) => {
        mode = (await editor.find(path))?.mode ?? PRIVATE;
        await editor.copyOut(path, copy);
      },
      { context },
    );
    await using output = await openOutputWithMode(hostFile, mode, context);
    for await (const piece of readFilePieces(copy)) await output.write(piece);
    await output.commit();
  });
}

/** `ingot artifact cp`. */
export function registerCp(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('cp')
    .description('copy a file into or out of an artifact or image')
    .argument('<source>', 'a file, IMAGE:PATH, or - for stdin')
    .argument('<target>', 'IMAGE:PATH, or a file')
    .addOption(compressionOption());
  withKeyOptions(bare, 'private key to sign the changed artifact with')
    .addHelpText('after', EXAMPLES)
    .action(async (source, target, options, command) => {
      const [from, to] = [parseImagePlace(source), parseImagePlace(target)];
      if (from !== undefined && to === undefined) {
        await copyOut(from, target, context);
      } else if (from === undefined && to !== undefined) {
        const signer = await openSigner(options);
        const compression = chosenOrOwnCompression(command);
        await copyIn(source, to, { context, signer, compression });
      } else {
        command.error(
          'error: one of both must have the form IMAGE:PATH, with an artifact or image',
        );
      }
    });
}
