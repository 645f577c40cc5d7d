import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import type { CliContext } from '../context.ts';

/**
 * Asks one question on stderr and reads one line from stdin.
 *
 * @param hidden whether what is typed stays off the screen
 */
export async function ask(
  context: CliContext,
  question: string,
  { hidden = false }: { readonly hidden?: boolean } = {},
): Promise<string> {
  const nowhere = new Writable({ write: (_bytes, _encoding, done) => done() });
  const isTerminal = 'isTTY' in context.stdin && context.stdin.isTTY === true;
  const lines = createInterface({
    input: context.stdin,
    output: hidden ? nowhere : context.stderr,
    terminal: isTerminal,
  });
  // After the terminal has stopped its echo: who types at once must not be shown.
  context.stderr.write(question);
  try {
    return (await lines.question('', { signal: context.signal })).trim();
  } finally {
    lines.close();
    if (hidden) context.stderr.write('\n');
  }
}

/** Asks before something is destroyed. A script is taken at its word; a person is asked. */
export async function mayDestroy(context: CliContext, what: string): Promise<boolean> {
  if (!('isTTY' in context.stdin) || context.stdin.isTTY !== true) return true;
  return /^y(es)?$/i.test(await ask(context, `Destroy ${what} for ever? [y/N] `));
}
