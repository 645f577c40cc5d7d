import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { IngotError, isFailure } from '../base/index.ts';
import { parseRpmHeader } from './rpm-header.ts';

interface Tag {
  readonly tag: number;
  readonly type: number;
  readonly value: Buffer;
}

function header(tags: readonly Tag[]): Buffer {
  const data = Buffer.concat(tags.map(({ value }) => value));
  const head = Buffer.alloc(8 + tags.length * 16);
  head.writeUInt32BE(tags.length, 0);
  head.writeUInt32BE(data.length, 4);
  let offset = 0;
  for (const [i, { tag, type, value }] of tags.entries()) {
    for (const [k, number] of [tag, type, offset, 1].entries()) {
      head.writeUInt32BE(number, 8 + i * 16 + k * 4);
    }
    offset += value.length;
  }
  return Buffer.concat([head, data]);
}

const text = (tag: number, value: string): Tag => ({
  tag,
  type: 6,
  value: Buffer.from(`${value}\0`),
});
const BASH = [text(1000, 'bash'), text(1001, '5.2'), text(1002, '3.el9')];

test('name, epoch, version, release and architecture are joined as rpm does', () => {
  const epoch = { tag: 1003, type: 4, value: Buffer.from([0, 0, 1, 2]) };
  assert.deepEqual(parseRpmHeader(header([...BASH, epoch, text(1022, 'x86_64')])), {
    name: 'bash',
    version: '258:5.2-3.el9.x86_64',
  });
  assert.deepEqual(parseRpmHeader(header(BASH)), { name: 'bash', version: '5.2-3.el9' });
});

test('a header that is cut or has no name is refused', () => {
  const whole = header(BASH);
  for (const bad of [Buffer.alloc(0), whole.subarray(0, -1), header(BASH.slice(1))]) {
    assert.throws(
      () => parseRpmHeader(bad),
      (thrown) => isFailure(thrown, 'filesystem-malformed'),
    );
  }
});

test('whatever bytes there are, the answer is a package or a failure', () => {
  const changed = fc.array(fc.tuple(fc.nat(70), fc.nat(255)), { maxLength: 6 });
  fc.assert(
    fc.property(changed, (changes) => {
      const bytes = header(BASH);
      for (const [at, byte] of changes) bytes[at] = byte;
      try {
        parseRpmHeader(bytes);
      } catch (thrown) {
        assert.ok(thrown instanceof IngotError, String(thrown));
      }
    }),
    { numRuns: 2000 },
  );
});
