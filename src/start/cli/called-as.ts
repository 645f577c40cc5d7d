/**
 * What a program of another name stands for: the words that come before its own arguments, and the
 * arguments that ask for a version there.
 */
const PROGRAMS: Readonly<
  Record<string, { readonly words: readonly string[]; readonly version: readonly string[] }>
> = {
  'mender-artifact': { words: ['artifact'], version: ['--version', '-v'] },
};

/**
 * Gives the arguments of `ingot` that a call under another name means.
 *
 * Links of other names lead to `bin/ingot`, which hands the name on in `INGOT_CALLED_AS`.
 *
 * @param name `mender-artifact`; any unknown name, or none, changes nothing
 */
export function argumentsCalledAs(
  name: string | undefined,
  args: readonly string[],
): readonly string[] {
  const program = Object.hasOwn(PROGRAMS, name ?? '') ? PROGRAMS[name ?? ''] : undefined;
  if (program === undefined) return args;
  if (program.version.includes(args[0] ?? '')) return ['--version'];
  return [...program.words, ...args];
}
