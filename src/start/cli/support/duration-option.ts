import { InvalidArgumentError } from '@commander-js/extra-typings';
import { parseDuration } from '../../../base/index.ts';

/** Parses the value of `--max-freeze`. */
export function durationOption(text: string): number {
  const ms = parseDuration(text);
  if (ms === undefined || ms <= 0) throw new InvalidArgumentError('such as 90s or 5m.');
  return ms;
}
