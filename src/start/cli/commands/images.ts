import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../context.ts';
import { registerImagesCat } from './images-cat.ts';
import { registerImageChanges } from './images-change.ts';
import { registerImagesDestroy } from './images-destroy.ts';
import { registerImagesDiff } from './images-diff.ts';
import { registerImagesDownload } from './images-download.ts';
import { registerImagesGeneralize } from './images-generalize.ts';
import { registerImagesImport } from './images-import.ts';
import { registerImagesList } from './images-list.ts';
import { registerImagesLs } from './images-ls.ts';
import { registerImagesPrune } from './images-prune.ts';
import { registerImagesShow } from './images-show.ts';
import { registerImagesVerify } from './images-verify.ts';
import { registerImagesWrite } from './images-write.ts';

/** `ingot images …`. */
export function registerImages(program: Command, context: CliContext): void {
  const images = program
    .command('images')
    .description('the image library of a daemon: list, show, import, download and more');
  registerImagesList(images, context);
  registerImagesImport(images, context);
  registerImagesDownload(images, context);
  registerImagesShow(images, context);
  registerImageChanges(images, context);
  registerImagesVerify(images, context);
  registerImagesDestroy(images, context);
  registerImagesWrite(images, context);
  registerImagesLs(images, context);
  registerImagesCat(images, context);
  registerImagesDiff(images, context);
  registerImagesPrune(images, context);
  registerImagesGeneralize(images, context);
}
