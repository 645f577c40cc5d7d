import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { systemClock } from '../../src/base/index.ts';
import { checkAfterwards, mayBeIngestLoop, nothingTold, startIngestLoop } from './ingest-loop.ts';

if (!(await mayBeIngestLoop())) {
  describe('a killed daemon', () => {
    test('loses nothing that it acknowledged, wherever SIGKILL meets it', async () => {
      const folder = mkdtempSync(join(tmpdir(), 'ingot-kill-'));
      const told = nothingTold();
      try {
        for (let round = 0; round < 5; round++) {
          const loop = await startIngestLoop(import.meta.filename, folder, told);
          const exited = once(loop.child, 'exit');
          await systemClock.sleep(Math.random() * 300);
          loop.child.kill('SIGKILL');
          await Promise.all([exited, loop.ended]);
          await checkAfterwards(folder, told);
        }
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
}
