import type { Command } from '@commander-js/extra-typings';
import type { CliContext } from '../context.ts';
import { registerSnapshotDump } from './snapshot-dump.ts';
import { registerSnapshotPull } from './snapshot-pull.ts';

/** `ingot snapshot …`. */
export function registerSnapshot(program: Command, context: CliContext): void {
  const snapshot = program
    .command('snapshot')
    .description('take consistent snapshots of running filesystems and disks');
  registerSnapshotDump(snapshot, context);
  registerSnapshotPull(snapshot, context);
}
