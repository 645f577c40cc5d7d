import { mkdirSync, readlinkSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { errnoOf, IngotError } from '../../../base/index.ts';
import { PROGRAMS } from '../called-as.ts';
import type { CliContext } from '../context.ts';

const INGOT = resolve(import.meta.dirname, '../../../../bin/ingot');

const EXAMPLE = `
Example:
  ingot links ~/bin && mender-artifact read release-1.mender     # with ~/bin first in PATH
`;

/** Makes one link; one that leads here already is fine. */
function makeLink(path: string): void {
  try {
    symlinkSync(INGOT, path);
  } catch (cause) {
    const errno = errnoOf(cause);
    if (errno === 'EEXIST' && leadsHere(path)) return;
    throw new IngotError('target-in-use', `${path} cannot be made: ${errno}`, { path }, { cause });
  }
}

function leadsHere(path: string): boolean {
  try {
    return readlinkSync(path) === INGOT;
  } catch {
    // A file of somebody's own: it is left alone, and the caller says so.
    return false;
  }
}

/** `ingot links`: scripts that call Mender's or Brightbox's programs then call ingot. */
export function registerLinks(program: Command, context: CliContext): void {
  program
    .command('links')
    .description("make links under the names of Mender's and Brightbox's programs")
    .argument('<folder>', 'where; put it first in PATH to use them')
    .addHelpText('after', EXAMPLE)
    .action((folder) => {
      mkdirSync(folder, { recursive: true });
      for (const name of Object.keys(PROGRAMS)) {
        const path = join(folder, name);
        makeLink(path);
        context.stdout.write(`${path}\n`);
      }
    });
}
