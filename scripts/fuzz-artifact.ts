/**
 * Reads many artifacts that are changed at random, and fails on anything but a clear refusal:
 * `node scripts/fuzz-artifact.ts [--runs N] [--seed N]`.
 */
import { parseArgs } from 'node:util';
import { fuzzArtifacts } from '../test/support/artifact-fuzz.ts';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
  },
});
const runs = Number(values.runs);
const started = performance.now();
const report = await fuzzArtifacts({
  runs,
  seed: Number(values.seed),
  onRun: (run) => {
    if (run % 20_000 === 0) process.stderr.write(`${run} of ${runs}\n`);
  },
});
const seconds = (performance.now() - started) / 1000;
const peakMib = Math.round(process.resourceUsage().maxRSS / 1024);
process.stdout.write(`${JSON.stringify({ ...report, seconds, peakMib })}\n`);
