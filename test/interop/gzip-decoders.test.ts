import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createGunzip, gunzipSync } from 'node:zlib';
import { openFastestCodec } from '../../src/keep/adapters/fastest-segment-codec.ts';
import { wasmSegmentCodec } from '../../src/keep/adapters/wasm-segment-codec.ts';
import { zlibSegmentCodec } from '../../src/keep/adapters/zlib-segment-codec.ts';
import type { SegmentCodec } from '../../src/keep/index.ts';
import { publishRawGz } from '../../src/publish/index.ts';
import { type DiskPiece, PiecesOpenImage } from '../fakes/pieces-open-image.ts';
import { missingTools } from './disk-image.ts';

/** Reads a .gz file's path and writes the plain bytes to stdout. */
interface Decoder {
  readonly tool: string;
  readonly argv: (path: string) => readonly string[];
  readonly name?: string;
}

const PYTHON = `
import sys, zlib
decoder = zlib.decompressobj(31)
plain = decoder.decompress(open(sys.argv[1], 'rb').read())
assert decoder.eof and not decoder.unused_data
sys.stdout.buffer.write(plain)
`;

const DECODERS: readonly Decoder[] = [
  { tool: 'gzip', argv: (path) => ['gzip', '-dc', path] },
  { tool: 'pigz', argv: (path) => ['pigz', '-dc', path] },
  { tool: 'busybox', argv: (path) => ['busybox', 'gunzip', '-c', path] },
  { tool: '7zz', argv: (path) => ['7zz', 'x', '-so', path] },
  { tool: 'bsdcat', argv: (path) => ['bsdcat', path] },
  { tool: 'igzip', argv: (path) => ['igzip', '-dc', path] },
  { tool: 'zstd', argv: (path) => ['zstd', '-dcq', path] },
  { tool: 'libdeflate-gunzip', argv: (path) => ['libdeflate-gunzip', '-c', path] },
  {
    name: 'zlib.decompressobj of Python',
    tool: 'python3',
    argv: (path) => ['python3', '-c', PYTHON, path],
  },
  {
    name: 'IO::Uncompress::Gunzip of Perl',
    tool: 'perl',
    argv: (path) => [
      'perl',
      '-MIO::Uncompress::Gunzip=gunzip,$GunzipError',
      '-e',
      'binmode STDOUT; gunzip($ARGV[0] => "-") or die $GunzipError',
      path,
    ],
  },
  {
    name: 'Zlib::GzipReader of Ruby',
    tool: 'ruby',
    argv: (path) => [
      'ruby',
      '-rzlib',
      '-e',
      'STDOUT.binmode; STDOUT.write(Zlib::GzipReader.open(ARGV[0]).read)',
      path,
    ],
  },
  {
    name: 'the gzip filter of nbdkit',
    tool: 'nbdkit',
    argv: (path) => [
      'nbdkit',
      '--readonly',
      '--filter=gzip',
      'file',
      path,
      '--run',
      // qemu-img writes no raw image to a pipe, but to a file that is one.
      `qemu-img convert -f raw -O raw "$uri" '${path}.plain' && cat '${path}.plain'`,
    ],
  },
];

/** Runs a decoder and gives the SHA-256 of what it wrote. */
function digestOfOutput(argv: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const [command = '', ...rest] = argv;
    const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
    const hash = createHash('sha256');
    child.stdout.on('data', (bytes: Buffer) => hash.update(bytes));
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(hash.digest('hex'));
      else reject(new Error(`${argv.join(' ')} ended with ${status}`));
    });
  });
}

/** Chunks of text, noise and binaries between holes of many lengths; the last byte is a chunk's. */
function makeDisk(): DiskPiece[] {
  const program = randomBytes(64).toString('hex').repeat(3000);
  const pieces: DiskPiece[] = [];
  for (let i = 0; i < 1500; i++) {
    if (i % 5 === 0) pieces.push([512, 4096, 65_536, 300_000][(i / 5) % 4] ?? 1);
    pieces.push(
      i % 3 === 0
        ? randomBytes(1 + (i % 9000))
        : Buffer.from(program.slice(i, i + 40 * (i % 90) + 1)),
    );
  }
  pieces.push(Buffer.alloc(256 * 1024, 'a whole chunk '), 20_000_000);
  const sizeBytes = pieces.reduce<number>((sum, piece) => {
    return sum + (typeof piece === 'number' ? piece : piece.byteLength);
  }, 0);
  // Whole sectors, as disks are: qemu-img rounds up.
  pieces.push(Buffer.alloc(1024 - (sizeBytes % 512), 'the end '));
  return pieces;
}

/** Each chunk coded by the other engine than the one before it. */
async function alternating(): Promise<SegmentCodec> {
  const { codec } = await openFastestCodec();
  const codecs = [codec, zlibSegmentCodec, wasmSegmentCodec];
  let turn = 0;
  return {
    name: 'alternating',
    encode: (plain) => (codecs[turn++ % codecs.length] ?? codec).encode(plain),
    decode: (coded, plainBytes) => codec.decode(coded, plainBytes),
    crc32: (bytes) => codec.crc32(bytes),
  };
}

describe('an image as .gz is one ordinary gzip member', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ingot-gzip-'));
  const path = join(folder, 'disk.gz');
  let bytes = Buffer.alloc(0);
  let sizeBytes = 0;
  let digest = '';

  before(async () => {
    const image = await PiecesOpenImage.of(makeDisk(), {
      codec: await alternating(),
      pageEntries: 100,
    });
    await using file = publishRawGz(image);
    const parts: Uint8Array[] = [];
    for await (const part of file.read(0, file.sizeBytes)) parts.push(part);
    bytes = Buffer.concat(parts);
    sizeBytes = image.plain.byteLength;
    digest = createHash('sha256').update(image.plain).digest('hex');
    writeFileSync(path, bytes);
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const { tool, name = tool, argv } of DECODERS) {
    const tools = tool === 'nbdkit' ? [tool, 'qemu-img'] : [tool];
    test(`for ${name}`, async (t) => {
      const missing = missingTools(...tools);
      if (missing.length > 0) return t.skip(`missing: ${missing.join(', ')}`);
      assert.equal(await digestOfOutput(argv(path)), digest);
    });
  }

  test('for gzip -t and gzip -l, which tell its size', (t) => {
    const missing = missingTools('gzip');
    if (missing.length > 0) return t.skip(`missing: ${missing.join(', ')}`);
    execFileSync('gzip', ['-t', path]);
    const [, numbers = ''] = execFileSync('gzip', ['-l', path], { encoding: 'utf8' }).split('\n');
    const [compressed, uncompressed] = numbers.trim().split(/\s+/);
    assert.deepEqual([compressed, uncompressed], [String(bytes.byteLength), String(sizeBytes)]);
  });

  test('for Node, at once, as a stream and through the web streams', async () => {
    const digestOfPlain = (plain: Uint8Array): string =>
      createHash('sha256').update(plain).digest('hex');
    assert.equal(digestOfPlain(gunzipSync(bytes)), digest);
    const streamed = createHash('sha256');
    for await (const part of createReadStream(path).pipe(createGunzip())) streamed.update(part);
    assert.equal(streamed.digest('hex'), digest);
    const body = new Response(bytes).body?.pipeThrough(new DecompressionStream('gzip'));
    assert.equal(digestOfPlain(new Uint8Array(await new Response(body).arrayBuffer())), digest);
  });

  test('for curl and fetch, when it is sent as Content-Encoding', async (t) => {
    const server = createServer((_, response) => {
      response.writeHead(200, { 'Content-Encoding': 'gzip', 'Content-Length': bytes.byteLength });
      response.end(bytes);
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    try {
      const address = server.address();
      assert.ok(typeof address === 'object' && address !== null);
      const url = `http://127.0.0.1:${address.port}/`;
      const fetched = new Uint8Array(await (await fetch(url)).arrayBuffer());
      assert.equal(createHash('sha256').update(fetched).digest('hex'), digest);
      const missing = missingTools('curl');
      if (missing.length > 0) return t.skip(`missing: ${missing.join(', ')}`);
      assert.equal(await digestOfOutput(['curl', '-sS', '--compressed', url]), digest);
    } finally {
      server.close();
    }
  });
});
