import { mkdir, mkdtemp, open, rename, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type Command, InvalidArgumentError } from '@commander-js/extra-typings';
import { errnoOf, type Id, IngotError, isId } from '../../../base/index.ts';
import { DirectoryDisk } from '../../../keep/adapters/directory-disk.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf } from '../support/daemon-access.ts';
import { openOfflineLibrary } from '../support/offline-library.ts';

const EXPORT_EXAMPLES = `
Examples:
  ingot library export img-y22uq -o /mnt/usb
  sudo -u ingot ingot library export img-y22uq img-9vxqi --data /var/lib/ingot -o /mnt/usb

No daemon may run on the data directory; run it as the daemon's user. Each image becomes a folder of
its own, from which another library takes it in and docs/restore-image.py restores it.
`;
const IMPORT_EXAMPLES = `
Examples:
  ingot library import /mnt/usb/img-y22uq --trust hqW1…=
  ingot library import /mnt/usb/img-*  exports of this very library need no --trust

No daemon may run on the data directory; run it as the daemon's user. The key is what the export
said; without it an image that another library signed is refused.
`;

/** Reads a public key: 32 bytes in base64. */
function collectKeys(text: string, before: readonly string[] | undefined): readonly string[] {
  if (/^[A-Za-z0-9+/]{43}=$/.test(text)) return [...(before ?? []), text];
  throw new InvalidArgumentError('a key is 44 characters of base64.');
}

/** `ingot library export`: copies images to folders, without a daemon. */
export function registerLibraryExport(library: Command, context: CliContext): void {
  library
    .command('export')
    .description('copy images, each to a folder of its own, without a daemon')
    .argument('<image...>', 'their ids')
    .requiredOption('-o, --output <dir>', 'where the folders go')
    .option('--data <dir>', 'the data directory')
    .option('--json', 'as JSON')
    .addHelpText('after', EXPORT_EXAMPLES)
    .action(async (texts, options) => {
      const ids = texts.map(imageIdOf);
      const parent = resolve(options.output);
      await using opened = await openOfflineLibrary(context, options);
      const { publicKey } = opened.library;
      for (const id of ids) {
        using progress = context.progress(id);
        const folder = await intoNewFolder(parent, id, (disk) =>
          opened.library.exportImage(id, disk, {
            signal: context.signal,
            onProgress: progress.onProgress,
          }),
        );
        progress[Symbol.dispose]();
        context.stdout.write(
          options.json === true
            ? `${JSON.stringify({ image: id, folder, public_key: publicKey })}\n`
            : `${folder}\n`,
        );
      }
      if (options.json !== true) {
        context.stderr.write(`Another library takes them in with --trust ${publicKey}\n`);
      }
    });
}

/** The folder has its name only once it is whole. */
async function intoNewFolder(
  parent: string,
  id: Id<'img'>,
  write: (disk: DirectoryDisk) => Promise<void>,
): Promise<string> {
  const folder = join(parent, id);
  let temporary: string;
  try {
    await mkdir(parent, { recursive: true });
    temporary = await mkdtemp(join(parent, `.${id}-`));
  } catch (cause) {
    throw unwritable(folder, cause);
  }
  try {
    await write(new DirectoryDisk(temporary));
    await rename(temporary, folder).catch((cause: unknown) => {
      throw unwritable(folder, cause);
    });
  } catch (thrown) {
    await rm(temporary, { recursive: true, force: true });
    throw thrown;
  }
  await using handle = await open(parent, 'r');
  await handle.sync();
  return folder;
}

function unwritable(folder: string, cause: unknown): IngotError {
  const errno = errnoOf(cause) ?? 'unknown';
  const isThere = errno === 'ENOTEMPTY' || errno === 'EEXIST' || errno === 'ENOTDIR';
  const code = isThere ? 'target-in-use' : 'target-unwritable';
  return new IngotError(code, `${folder} cannot be made: ${errno}`, { folder }, { cause });
}

/** `ingot library import`: takes exported images in, without a daemon. */
export function registerLibraryImport(library: Command, context: CliContext): void {
  library
    .command('import')
    .description('take exported images in, under new ids, without a daemon')
    .argument('<folder...>', 'folders that ingot library export made')
    .option('--trust <key>', 'public key of a library that is believed; repeatable', collectKeys)
    .option('--data <dir>', 'the data directory')
    .option('--json', 'as JSON')
    .addHelpText('after', IMPORT_EXAMPLES)
    .action(async (folders, options) => {
      await using opened = await openOfflineLibrary(context, options);
      const { library: target } = opened;
      const account = (await target.accounts.accounts())[0];
      if (account === undefined) {
        throw new IngotError('library-unusable', 'the library has no account; start it once');
      }
      for (const folder of folders) {
        const source = new DirectoryDisk(resolve(folder));
        const exported = await exportedImage(source, folder);
        using progress = context.progress(exported);
        const image = await target.importImage(account.id, exported, source, {
          trust: options.trust ?? [],
          signal: context.signal,
          onProgress: progress.onProgress,
        });
        progress[Symbol.dispose]();
        context.stdout.write(
          options.json === true
            ? `${JSON.stringify({ image: image.id, name: image.name, exported })}\n`
            : `${image.id}\n`,
        );
      }
    });
}

/** Which image a folder holds. A whole library has many, and is no export. */
async function exportedImage(source: DirectoryDisk, folder: string): Promise<Id<'img'>> {
  // The marker is written last: a folder without it is no export, or half of one.
  const isWhole = (await source.sizeOf('ingot-library.json')) !== undefined;
  const names = isWhole ? await source.list('manifests/images') : [];
  const ids = new Set(names.map((name) => name.replace(/\..*$/, '')));
  const [id = ''] = ids;
  if (ids.size === 1 && isId('img', id)) return id;
  throw new IngotError('source-unsupported', `${folder} is not the export of one image`, {
    folder,
  });
}
