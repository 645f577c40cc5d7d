import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { systemClock } from '../../src/base/index.ts';
import { checkAfterwards, mayBeIngestLoop, nothingTold, startIngestLoop } from './ingest-loop.ts';
import { SeededNumbers } from './simulated-disk.ts';

const ROUNDS = Number(process.env['INGOT_KILLS'] ?? 5);
const SEED = Number(process.env['INGOT_FAULT_SEED'] ?? Date.now() % 1_000_000);

if (!(await mayBeIngestLoop())) {
  describe(`a killed daemon (seed ${SEED})`, () => {
    for (const [kind, what, longestMs] of [
      ['ingest', 'ingests', 300],
      ['upkeep', 'rebuilds, verifies and collects', 500],
    ] as const) {
      test(`that ${what} loses nothing that it acknowledged, wherever SIGKILL meets it`, async () => {
        const folder = mkdtempSync(join(tmpdir(), 'ingot-kill-'));
        const told = nothingTold();
        const numbers = new SeededNumbers(SEED);
        try {
          for (let round = 0; round < ROUNDS; round++) {
            const loop = await startIngestLoop(import.meta.filename, folder, told, kind);
            const exited = once(loop.child, 'exit');
            await systemClock.sleep(numbers.below(longestMs));
            loop.child.kill('SIGKILL');
            await Promise.all([exited, loop.ended]);
            await checkAfterwards(folder, told);
          }
        } finally {
          rmSync(folder, { recursive: true });
        }
      });
    }
  });
}
