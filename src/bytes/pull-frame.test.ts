import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parsePullFrame } from './pull-frame.ts';

test('each frame of the protocol is understood', () => {
  const digest = 'a'.repeat(64);
  const frames = {
    'INGOT ready 1': { kind: 'ready', version: 1 },
    'INGOT root 0123456789abcdef': { kind: 'root', nonce: '0123456789abcdef' },
    'INGOT no-sudo': { kind: 'no-sudo' },
    'INGOT ok': { kind: 'ok' },
    'INGOT guarded': { kind: 'guarded' },
    'INGOT thawed': { kind: 'thawed' },
    'INGOT text 12': { kind: 'text', lengthBytes: 12 },
    'INGOT data 7 zstd 4096': { kind: 'data', sequence: 7, codec: 'zstd', lengthBytes: 4096 },
    [`INGOT done 7 ${digest}`]: { kind: 'done', sequence: 7, digest },
    'INGOT done 7 -': { kind: 'done', sequence: 7, digest: undefined },
    [`INGOT sums 3 ${digest} ${digest}${digest}`]: {
      kind: 'sums',
      sequence: 3,
      digests: [digest, `${digest}${digest}`],
    },
    'INGOT frozen -': { kind: 'frozen', snapshotDevice: undefined },
    'INGOT frozen /dev/vg/s': { kind: 'frozen', snapshotDevice: '/dev/vg/s' },
    'INGOT not-frozen busy it is': { kind: 'not-frozen', why: 'busy', text: 'it is' },
    'INGOT not-thawed who knows': { kind: 'not-thawed', text: 'who knows' },
    'INGOT bye 99': { kind: 'bye', totalBytes: 99 },
  };
  for (const [line, frame] of Object.entries(frames)) assert.deepEqual(parsePullFrame(line), frame);
});

test('a line that is no frame is none, whatever it holds', () => {
  const lines = [
    '',
    'Welcome!',
    'INGOT',
    'INGOT what',
    'INGOT data 1 lz4 4096',
    'INGOT data 1 zstd -4',
    'INGOT data 1 zstd 1e9',
    'INGOT text 99999999999999999',
    'INGOT done 1 abc',
    'INGOT sums 1 abc',
    'INGOT not-frozen maybe',
  ];
  for (const line of lines) assert.equal(parsePullFrame(line), undefined, line);
  fc.assert(
    fc.property(fc.string(), (text) => {
      parsePullFrame(`INGOT ${text}`);
    }),
  );
});
