import type { CommandUnknownOpts, Option } from '@commander-js/extra-typings';

/** The option of a command, or of one above it, that an argument names: `-f`, `--file`. */
function optionNamed(command: CommandUnknownOpts, name: string): Option | undefined {
  for (let at: CommandUnknownOpts | null = command; at !== null; at = at.parent) {
    const found = at.options.find(({ short, long }) => short === name || long === name);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Spells long options that have one dash, as Go's programs take them, with two: `-output-path X`,
 * `-compression=none`. Only names of options change, and never what is given to an option.
 *
 * @param program knows the commands and their options
 * @see https://pkg.go.dev/flag#hdr-Command_line_flag_syntax
 */
export function withTwoDashes(program: CommandUnknownOpts, argv: readonly string[]): string[] {
  const spelled: string[] = [];
  let command: CommandUnknownOpts = program;
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i] ?? '';
    if (argument === '--') return [...spelled, ...argv.slice(i)];
    if (!argument.startsWith('-')) {
      spelled.push(argument);
      command = command.commands.find((below) => below.name() === argument) ?? command;
      continue;
    }
    const isLong = /^-[a-z][a-z-]/.test(argument);
    const twoDashes = `-${argument}`;
    const mayBe = isLong ? optionNamed(command, twoDashes.split('=', 1)[0] ?? '') : undefined;
    spelled.push(mayBe === undefined ? argument : twoDashes);
    const option = mayBe ?? optionNamed(command, argument);
    const value = argv[i + 1];
    if (option?.required === true && !argument.includes('=') && value !== undefined) {
      spelled.push(value);
      i += 1;
    }
  }
  return spelled;
}
