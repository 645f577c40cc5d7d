import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { decompress } from '@napi-rs/lzma/xz';
import { portableXzEncoder, xzEncoder } from './liblzma.ts';

const PIECE_BYTES = 4 * 1024 * 1024;
const MAX_MEBIBYTES = 150;

/** Bytes that compress, but not to nothing. */
function pieceOf(seed: number): Buffer {
  const piece = Buffer.alloc(PIECE_BYTES);
  for (let at = 0; at < piece.length; at += 4)
    piece.writeUInt32LE(((at * seed) % 2 ** 32) & 0xffff, at);
  return piece;
}

/** Codes pieces at once in a process of its own, and prints how much memory that took, in MiB. */
const PROGRAM = `
const { readFileSync } = await import('node:fs');
const { portableXzEncoder } = await import(process.argv[1]);
const peak = () => Number(/VmHWM:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) / 1024;
const before = peak();
const encode = portableXzEncoder();
const piece = Buffer.from('some words '.repeat(${PIECE_BYTES} / 11));
await Promise.all(Array.from({ length: 6 }, () => encode(piece)));
console.log(Math.round(peak() - before));
`;

describe('xz streams', () => {
  for (const [name, encode] of [
    ['liblzma', xzEncoder()],
    ['the portable encoder', portableXzEncoder()],
  ] as const) {
    test(`of ${name} unpack to what went in, several at once`, async () => {
      const pieces = [pieceOf(3), pieceOf(7), Buffer.from('short')];
      const streams = await Promise.all(pieces.map((piece) => encode(piece)));
      for (const [i, stream] of streams.entries()) {
        assert.ok((await decompress(stream)).equals(pieces[i] ?? Buffer.alloc(0)));
      }
    });
  }

  test(`the portable encoder takes at most ${MAX_MEBIBYTES} MiB`, () => {
    const module = join(import.meta.dirname, 'liblzma.ts');
    const argv = ['--disable-warning=ExperimentalWarning', '--input-type=module', '-e', PROGRAM];
    const { stdout, stderr } = spawnSync(process.execPath, [...argv, module], { encoding: 'utf8' });
    assert.ok(Number(stdout) > 0, stderr);
    assert.ok(Number(stdout) < MAX_MEBIBYTES, `${stdout} MiB`);
  });
});
