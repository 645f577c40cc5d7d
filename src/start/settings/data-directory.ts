import { homedir } from 'node:os';
import { join } from 'node:path';

/** Environment variables as a program was given them. */
export type Env = Readonly<Record<string, string | undefined>>;

/**
 * Names the data directory that is used when nobody names one: `/var/lib/ingot` for root, below
 * `$XDG_DATA_HOME` (`~/.local/share`) for everybody else.
 *
 * @see https://specifications.freedesktop.org/basedir-spec/latest/
 */
export function defaultDataDirectory(env: Env, isRoot: boolean): string {
  if (isRoot) return '/var/lib/ingot';
  return join(absolute(env['XDG_DATA_HOME']) ?? join(home(env), '.local/share'), 'ingot');
}

/** Names the directory of the user's own settings: `$XDG_CONFIG_HOME/ingot` or `~/.config/ingot`. */
export function configDirectory(env: Env): string {
  return join(absolute(env['XDG_CONFIG_HOME']) ?? join(home(env), '.config'), 'ingot');
}

function home(env: Env): string {
  return absolute(env['HOME']) ?? homedir();
}

/** The base directory specification says that relative paths are to be ignored. */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith('/') === true ? path : undefined;
}
