import { once } from 'node:events';
import type { CliContext } from '../context.ts';

/** Writes to stdout and waits while its reader is slower than we are. */
export async function writeData(context: CliContext, data: string | Uint8Array): Promise<void> {
  if (context.stdout.write(data)) return;
  await once(context.stdout, 'drain', { signal: context.signal });
}
