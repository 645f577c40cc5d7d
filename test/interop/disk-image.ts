import { execFileSync, spawnSync } from 'node:child_process';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { IngotError } from '../../src/base/index.ts';
import { RunList } from '../../src/bytes/filesystems/run-list.ts';
import type { ByteReader, Extent } from '../../src/bytes/index.ts';

/** Opens a disk image for reading; close it with `using`. */
export function openImage(path: string): ByteReader & Disposable {
  const fd = openSync(path, 'r');
  const sizeBytes = statSync(path).size;
  return {
    sizeBytes,
    read(offsetBytes, lengthBytes) {
      if (offsetBytes < 0 || offsetBytes + lengthBytes > sizeBytes) {
        const message = `${lengthBytes} bytes at ${offsetBytes} are outside of the image`;
        return Promise.reject(new IngotError('source-truncated', message));
      }
      const buffer = Buffer.alloc(lengthBytes);
      readSync(fd, buffer, 0, lengthBytes, offsetBytes);
      return Promise.resolve(buffer);
    },
    [Symbol.dispose]: () => closeSync(fd),
  };
}

/** Makes an image full of bytes that are no zeros, as a used disk is. */
export function makeDirtyImage(path: string, sizeBytes: number): void {
  const fd = openSync(path, 'w');
  const marker = Buffer.alloc(1024 * 1024, 'old secret. ');
  for (let at = 0; at < sizeBytes; at += marker.length) writeSync(fd, marker, 0, marker.length, at);
  ftruncateSync(fd, sizeBytes);
  closeSync(fd);
}

/** Copies only these bytes of an image; the rest of the copy is zeros. */
export function copyMasked(source: string, target: string, extents: readonly Extent[]): void {
  const from = openSync(source, 'r');
  const to = openSync(target, 'w');
  ftruncateSync(to, statSync(source).size);
  const buffer = Buffer.alloc(1024 * 1024);
  const zeros = Buffer.alloc(buffer.length);
  for (const { offsetBytes, lengthBytes } of extents) {
    for (let done = 0; done < lengthBytes; ) {
      const length = Math.min(buffer.length, lengthBytes - done);
      const got = readSync(from, buffer, 0, length, offsetBytes + done);
      // The copy is sparse where the source has zeros: a log of 64 MiB mostly has.
      if (zeros.compare(buffer, 0, got, 0, got) !== 0) {
        writeSync(to, buffer, 0, got, offsetBytes + done);
      }
      done += got;
    }
  }
  closeSync(from);
  closeSync(to);
}

/** Runs a tool to its end; a failure shows its words. */
export function run(command: string, args: readonly string[], input?: string): string {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
    ...(input === undefined ? {} : { input }),
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0) {
    const text = `${result.stdout}${result.stderr}`.trim().slice(-2000);
    throw new Error(`${command} ${args.join(' ')} ended with ${result.status}: ${text}`);
  }
  return result.stdout;
}

/** Names the tools of a list that are not installed. */
export function missingTools(...tools: string[]): string[] {
  return tools.filter((tool) => spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0);
}

/** Makes a tree with what filesystems store in different ways: sizes, holes, links, long names. */
export function makeTree(folder: string, options = { links: true }): void {
  mkdirSync(join(folder, 'etc/deep/er'), { recursive: true });
  mkdirSync(join(folder, 'many'));
  const text = (seed: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    for (let i = 0, x = seed + 1; i < length; i++) {
      x = (Math.imul(x, 1103515245) + 12345) >>> 0;
      buffer[i] = x >>> 24;
    }
    return buffer;
  };
  for (const [i, size] of [0, 1, 59, 60, 100, 1023, 1024, 4096, 4097, 70_000, 400_000].entries()) {
    writeFileSync(join(folder, `etc/file-of-${size}`), text(i, size));
  }
  writeFileSync(join(folder, 'etc/deep/er/large'), text(99, 3_000_000));
  for (let i = 0; i < 120; i++) {
    writeFileSync(
      join(folder, `many/${'name-'.repeat((i % 20) + 1)}${i}`),
      text(i, (i * 37) % 9000),
    );
  }
  const sparse = join(folder, 'etc/sparse');
  writeFileSync(sparse, 'start');
  truncateSync(sparse, 5_000_000);
  const fd = openSync(sparse, 'r+');
  for (let at = 8192; at < 4_000_000; at += 40_960) writeSync(fd, text(at, 4096), 0, 4096, at);
  closeSync(fd);
  if (!options.links) return;
  symlinkSync('short', join(folder, 'etc/link'));
  symlinkSync('x'.repeat(200), join(folder, 'etc/long-link'));
  execFileSync('ln', [join(folder, 'etc/file-of-4097'), join(folder, 'hard')]);
}

/**
 * Lists what partclone would copy of a filesystem: an independent reader of the same structures.
 *
 * @param kind names the program: `partclone.f2fs`, …
 */
export function partcloneExtents(kind: string, image: string, log: string): Extent[] {
  rmSync(log, { force: true });
  run(`partclone.${kind}`, ['-D', '-s', image, '-o', log, '-L', '/dev/null']);
  const extents: Extent[] = [];
  for (const match of readFileSync(log, 'utf8').matchAll(/^(0x\w+) {2}(0x\w+) {2}\+$/gm)) {
    extents.push({ offsetBytes: Number(match[1]), lengthBytes: Number(match[2]) });
  }
  return extents;
}

/** The parts of `extents` that `others` do not hold. */
export function missingFrom(extents: readonly Extent[], others: readonly Extent[]): Extent[] {
  const listOf = (list: readonly Extent[]): RunList => {
    const runs = new RunList('join-gaps');
    for (const { offsetBytes, lengthBytes } of list)
      runs.add(offsetBytes, offsetBytes + lengthBytes);
    return runs;
  };
  return [...listOf(extents).without(listOf(others)).extents()];
}
