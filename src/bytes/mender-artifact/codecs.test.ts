import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, isFailure } from '../../base/index.ts';
import { encodeGoJson, type JsonValue, parseJson, sortedDeep } from './go-json.ts';
import { encodeHeaderInfo, parseHeaderInfo } from './header-info.ts';
import { encodeManifest, parseManifest } from './manifest.ts';
import { encodeTypeInfo, parseTypeInfo } from './type-info.ts';
import { encodeVersionFile, parseVersionFile } from './version-file.ts';

const text = fc.string({ unit: 'binary', maxLength: 12 });

describe('JSON as Go writes it', () => {
  test('equals known bytes for everything that Go escapes', () => {
    const value = new Map<string, JsonValue>([
      ['html', '<a href="x">&'],
      ['lines', 'a\u2028b\u2029c\n\r\t\u0001\u007f'],
      ['lone', 'x\ud800y'],
      ['numbers', [1, 1e21, 1e-7, 123_456_789_012_345_680, -0, 2.5]],
      ['slash', '/ü€'],
      ['none', null],
    ]);
    assert.equal(
      encodeGoJson(value),
      String.raw`{"html":"\u003ca href=\"x\"\u003e\u0026","lines":"a\u2028b\u2029c\n\r\t\u0001` +
        '\u007f","lone":"x\ufffdy","numbers":[1,1e+21,1e-7,123456789012345680,-0,2.5],' +
        '"slash":"/ü€","none":null}',
    );
  });

  test('any JSON is read back as it was written', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const bytes = Buffer.from(JSON.stringify(value));
        const encoded = encodeGoJson(parseJson(bytes, 'x'));
        assert.deepEqual(JSON.parse(encoded), JSON.parse(JSON.stringify(value).toWellFormed()));
      }),
    );
  });

  test('keys are sorted by their UTF-8 bytes, on every level', () => {
    const parsed = parseJson(
      Buffer.from('{"\u{1f600}":1,"\uff5e":{"b":1,"a":2},"__proto__":3}'),
      'x',
    );
    assert.equal(
      encodeGoJson(sortedDeep(parsed)),
      '{"__proto__":3,"\uff5e":{"a":2,"b":1},"\u{1f600}":1}',
    );
  });

  test('deep nesting and numbers beyond a double are refused', () => {
    for (const bad of ['['.repeat(10_000) + ']'.repeat(10_000), '[1e999]', '{', '']) {
      assert.throws(
        () => parseJson(Buffer.from(bad), 'x'),
        (e) => isFailure(e, 'artifact-malformed'),
      );
    }
  });
});

describe('the manifest', () => {
  const line = fc
    .tuple(fc.stringMatching(/^[!-~]{1,60}$/), text)
    .map(([name, content]) => ({ name, digest: digestOf(Buffer.from(content)) }));

  test('is read back as it was written', () => {
    const lines = fc.uniqueArray(line, { maxLength: 6, selector: (l) => l.name });
    fc.assert(
      fc.property(lines, (written) => {
        assert.deepEqual(parseManifest(encodeManifest(written), 'manifest'), written);
      }),
    );
  });

  test('is refused with the line that is wrong', () => {
    const good = `${'a'.repeat(64)}  version\n`;
    const bad: Record<string, string> = {
      'upper case': `${'A'.repeat(64)}  x\n`,
      'a short digest': `${'a'.repeat(63)}  x\n`,
      'one blank': `${'a'.repeat(64)} x\n`,
      'a name with a blank': `${'a'.repeat(64)}  x y\n`,
      'a name twice': good,
      'an empty line': '\n',
    };
    for (const [what, second] of Object.entries(bad)) {
      assert.throws(
        () => parseManifest(Buffer.from(good + second), 'manifest'),
        (thrown) => isFailure(thrown, 'artifact-malformed') && /line 2/.test(thrown.message),
        what,
      );
    }
  });
});

describe('version, header-info and type-info', () => {
  test('the file version has known bytes', () => {
    assert.equal(
      digestOf(encodeVersionFile(3)),
      '96bcd965947569404798bcbdb614f103db5a004eb6e364cfc162c146890ea35b',
    );
    assert.equal(
      digestOf(encodeVersionFile(2)),
      '52c76ab66947278a897c2a6df8b4d77badfa343fec7ba3b2983c2ecbbb041a35',
    );
  });

  test('other versions, formats and members are refused', () => {
    const refused: Record<string, string> = {
      '{"format":"mender","version":1}': 'artifact-unsupported',
      '{"format":"mender","version":4}': 'artifact-unsupported',
      '{"format":"other","version":3}': 'artifact-malformed',
      '{"format":"mender","version":3,"more":1}': 'artifact-malformed',
      '{"format":"mender"}': 'artifact-malformed',
      '[]': 'artifact-malformed',
    };
    for (const [json, code] of Object.entries(refused)) {
      assert.throws(
        () => parseVersionFile(Buffer.from(json)),
        (thrown) => isFailure(thrown) && thrown.code === code,
        json,
      );
    }
  });

  test('header-info of both versions is read back as it was written', () => {
    const members = {
      payloadType: fc.constantFrom('rootfs-image', 'script', null),
      name: fc.string({ minLength: 1, maxLength: 9 }),
      group: fc.option(fc.string({ minLength: 1, maxLength: 9 }), { nil: undefined }),
      dependsNames: fc.array(fc.string({ maxLength: 9 }), { maxLength: 2 }),
      deviceTypes: fc.array(fc.string({ maxLength: 9 }), { minLength: 1, maxLength: 3 }),
      dependsGroups: fc.array(fc.string({ maxLength: 9 }), { maxLength: 2 }),
    };
    const info = fc.record(members, { noNullPrototype: true });
    fc.assert(
      fc.property(info, (written) => {
        assert.deepEqual(parseHeaderInfo(encodeHeaderInfo(written, 3), 3), written);
        const v2 = { ...written, group: undefined, dependsNames: [], dependsGroups: [] };
        assert.deepEqual(parseHeaderInfo(encodeHeaderInfo(v2, 2), 2), v2);
      }),
    );
  });

  test('type-info is read back as it was written, keys sorted, empty members left out', () => {
    const info = {
      type: 'script',
      provides: new Map([
        ['b', '2'],
        ['a', '<1>'],
      ]),
      depends: new Map<string, string | string[]>([['k', ['x', 'y']]]),
      clearsProvides: ['a.*'],
    };
    const bytes = encodeTypeInfo(info);
    assert.equal(
      bytes.toString(),
      '{"type":"script","artifact_depends":{"k":["x","y"]},' +
        String.raw`"artifact_provides":{"a":"\u003c1\u003e","b":"2"},"clears_artifact_provides":["a.*"]}`,
    );
    assert.deepEqual(parseTypeInfo(bytes, 'x'), info);
    const bare = { type: null, provides: new Map(), depends: new Map(), clearsProvides: [] };
    assert.equal(encodeTypeInfo(bare).toString(), '{"type":null}');
  });
});
