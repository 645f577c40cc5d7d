/** What a program of another name stands for. */
interface Program {
  /** The words that come before its own arguments. */
  readonly words: readonly string[];
  /** Arguments that ask for a version there. */
  readonly version: readonly string[];
  /** Options of its own that mean nothing here, and whether a value follows. */
  readonly ignored: Readonly<Record<string, 'flag' | 'value'>>;
}

// The data directory and the log of Mender's client: a snapshot needs neither.
const MENDER_IGNORED: Program['ignored'] = {
  '--data': 'value',
  '-l': 'value',
  '--log-level': 'value',
  '--log-file': 'value',
  '--no-syslog': 'flag',
};

/**
 * Programs of Mender and Brightbox whose commands `ingot` has too.
 *
 * @see https://docs.mender.io/artifact-creation/create-an-artifact-from-system-snapshot
 */
export const PROGRAMS: Readonly<Record<string, Program>> = {
  'mender-artifact': { words: ['artifact'], version: ['--version', '-v'], ignored: {} },
  mender: { words: [], version: ['--version', '-version'], ignored: MENDER_IGNORED },
  'mender-snapshot': { words: ['snapshot'], version: ['--version', '-v'], ignored: MENDER_IGNORED },
  'brightbox-images': { words: ['images'], version: ['--version'], ignored: {} },
};

function withoutIgnored(args: readonly string[], ignored: Program['ignored']): string[] {
  const kept: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i] ?? '';
    const name = arg.split('=', 1)[0] ?? '';
    const kind = Object.hasOwn(ignored, name) ? ignored[name] : undefined;
    if (kind === undefined) kept.push(arg);
    else if (kind === 'value' && name === arg) i += 1;
  }
  return kept;
}

/**
 * Gives the arguments of `ingot` that a call under another name means.
 *
 * Links of other names lead to `bin/ingot`, which hands the name on in `INGOT_CALLED_AS`.
 *
 * @param name a key of {@link PROGRAMS}; any unknown name, or none, changes nothing
 */
export function argumentsCalledAs(
  name: string | undefined,
  args: readonly string[],
): readonly string[] {
  const program = Object.hasOwn(PROGRAMS, name ?? '') ? PROGRAMS[name ?? ''] : undefined;
  if (program === undefined) return args;
  if (program.version.includes(args[0] ?? '')) return ['--version'];
  return [...program.words, ...withoutIgnored(args, program.ignored)];
}
