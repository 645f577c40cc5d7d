import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isFailure, KIB, MIB } from '../../src/base/index.ts';
import { DirectoryLibrary } from '../../src/keep/index.ts';
import {
  bytesOf,
  descriptionOf,
  entriesOf,
  ingest,
  segmentOf,
  streamOf,
  summaryOf,
} from '../contracts/ingest-session.ts';
import { ACCOUNT, partsIn, readDisk } from '../contracts/test-library.ts';
import { missingTools } from '../interop/disk-image.ts';
import { eventually } from './ingot-command.ts';

const LIMITS = { packBytes: MIB, digestBytes: 0, reserveBytes: 0 };
const missing = missingTools('nbdkit', 'nbdfuse', 'mkfs.ext4').join(', ');

/**
 * An ext4 on a loop device over a disk that nbdkit makes bad: reads or writes fail while a file says
 * so. nbdfuse shows the disk as a file, so no driver of the kernel is needed but loop and FUSE.
 */
class BadDisk implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'ingot-bad-disk-'));
  readonly mountPoint = join(this.folder, 'mount');
  readonly #fuse = join(this.folder, 'fuse');
  readonly #children: ChildProcess[] = [];
  #isMounted = false;

  /** @param filters of nbdkit, with their parameters */
  static async start(filters: readonly string[], parameters: readonly string[]): Promise<BadDisk> {
    const disk = new BadDisk();
    try {
      await disk.#start(filters, parameters);
      return disk;
    } catch (thrown) {
      await disk[Symbol.asyncDispose]();
      throw thrown;
    }
  }

  async #start(filters: readonly string[], parameters: readonly string[]): Promise<void> {
    mkdirSync(this.mountPoint);
    mkdirSync(this.#fuse);
    const image = join(this.folder, 'image');
    writeFileSync(image, '');
    truncateSync(image, 128 * MIB);
    execFileSync('mkfs.ext4', ['-q', image]);
    const socket = join(this.folder, 'socket');
    // Written once it listens: the socket is there a moment before.
    const pidFile = join(this.folder, 'nbdkit.pid');
    const words = ['-f', '-U', socket, '-P', pidFile];
    const argv = [...words, ...filters.map((name) => `--filter=${name}`), 'file', image];
    this.#spawn('nbdkit', [...argv, ...parameters.map((text) => text.replace('@', this.folder))]);
    await eventually('nbdkit listening', () => existsSync(pidFile) || undefined);
    this.#spawn('nbdfuse', [join(this.#fuse, 'disk'), '--unix', socket]);
    await eventually(
      'the file of nbdfuse',
      () => existsSync(join(this.#fuse, 'disk')) || undefined,
    );
    this.mount();
  }

  #spawn(program: string, argv: readonly string[]): void {
    this.#children.push(spawn(program, argv, { stdio: 'ignore' }));
  }

  /** From now on reads or writes fail, or do not. */
  set(what: 'bad-reads' | 'bad-writes', isBad: boolean): void {
    const trigger = join(this.folder, what);
    if (isBad) writeFileSync(trigger, '');
    else rmSync(trigger, { force: true });
  }

  mount(): void {
    execFileSync('mount', ['-o', 'loop', join(this.#fuse, 'disk'), this.mountPoint]);
    this.#isMounted = true;
  }

  /** Mends what failed writes left, as a boot does, and mounts again; no cache keeps old bytes. */
  repair(): void {
    execFileSync('umount', [this.mountPoint]);
    this.#isMounted = false;
    const { status } = spawnSync('e2fsck', ['-p', join(this.#fuse, 'disk')]);
    assert.ok((status ?? 99) <= 1, `e2fsck ended with ${status}`);
    this.mount();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isMounted) spawnSync('umount', [this.mountPoint]);
    // The loop device lets go of its file a moment after the filesystem over it is gone.
    await eventually('the end of nbdfuse', () =>
      spawnSync('umount', [this.#fuse]).status === 0 || !existsSync(join(this.#fuse, 'disk'))
        ? true
        : undefined,
    );
    for (const child of this.#children.toReversed()) {
      const ended = child.exitCode === null ? once(child, 'exit') : undefined;
      child.kill('SIGTERM');
      await ended;
    }
    rmSync(this.folder, { recursive: true });
  }
}

function segmentsOf(from: number, count: number) {
  return Array.from({ length: count }, (_, i) => segmentOf(bytesOf(from + i, 100 * KIB)));
}

const ERRORS = ['write', 'read'].flatMap((what) => [
  `error-p${what}=EIO`,
  `error-p${what}-rate=100%`,
  `error-p${what}-file=@/bad-${what}s`,
]);

describe('a library on a bad disk', {
  skip: missing === '' ? false : `not installed: ${missing}`,
}, () => {
  test('whose writes fail (EIO) acknowledges nothing more, and loses nothing that it acknowledged', async () => {
    await using disk = await BadDisk.start(['error'], ERRORS);
    let kept = '';
    {
      await using library = await DirectoryLibrary.open(
        partsIn(disk.mountPoint, { limits: LIMITS }),
      );
      const account = library.forAccount(ACCOUNT);
      kept = (await ingest(account, 'kept', segmentsOf(0, 30))).id;
      disk.set('bad-writes', true);
      await assert.rejects(ingest(account, 'lost', segmentsOf(100, 30)), (thrown) =>
        isFailure(thrown, 'library-unusable'),
      );
      disk.set('bad-writes', false);
      // After a failed sync the kernel may call the next one a success: nothing is written any more.
      await assert.rejects(ingest(account, 'late', segmentsOf(200, 3)), (thrown) =>
        isFailure(thrown, 'library-unusable'),
      );
    }
    disk.repair();
    await using library = await DirectoryLibrary.open(partsIn(disk.mountPoint, { limits: LIMITS }));
    const account = library.forAccount(ACCOUNT);
    assert.deepEqual(
      (await account.list()).map(({ id }) => id),
      [kept],
    );
    assert.equal((await readDisk(account, kept)).length, 30 * 100 * KIB);
    assert.equal((await library.verify()).isClean, true);
    await library.collect({ isForced: true });
    await ingest(account, 'again', segmentsOf(100, 30));
    assert.equal((await library.verify()).isClean, true);
  });

  test('whose reads fail (EIO) names the damaged image, deletes nothing, and is whole when they work again', async () => {
    await using disk = await BadDisk.start(['error'], ERRORS);
    const parts = partsIn(disk.mountPoint, { limits: LIMITS });
    let id = '';
    {
      await using library = await DirectoryLibrary.open(parts);
      id = (await ingest(library.forAccount(ACCOUNT), 'kept', segmentsOf(0, 30))).id;
    }
    disk.repair();
    await using library = await DirectoryLibrary.open(partsIn(disk.mountPoint, { limits: LIMITS }));
    const account = library.forAccount(ACCOUNT);
    disk.set('bad-reads', true);
    await assert.rejects(readDisk(account, id), (thrown) => isFailure(thrown));
    const report = await library.verify().catch((thrown: unknown) => thrown);
    const isSeen = isFailure(report) || (report as { isClean: boolean }).isClean === false;
    assert.ok(isSeen, JSON.stringify(report));
    disk.set('bad-reads', false);
    // A verify that can read all of it again ends every quarantine.
    assert.equal((await library.verify()).isClean, true);
    assert.equal((await readDisk(account, id)).length, 30 * 100 * KIB);
  });

  test('that is slow makes an ingest wait, and memory does not grow with it', async () => {
    await using disk = await BadDisk.start(['rate'], ['rate=200M']);
    await using library = await DirectoryLibrary.open(
      partsIn(disk.mountPoint, { limits: { ...LIMITS, packBytes: 4 * MIB } }),
    );
    const account = library.forAccount(ACCOUNT);
    const session = await account.begin(descriptionOf('slow'));
    const entries = [];
    const before = residentBytes();
    let peak = before;
    // 64 MiB at 25 MB/s: what was put and is not written yet must not pile up.
    for (let i = 0; i < 64; i++) {
      const batch = Array.from({ length: 4 }, (_, k) => segmentOf(noise(i * 4 + k, 256 * KIB)));
      await session.put(batch);
      entries.push(...entriesOf(batch));
      peak = Math.max(peak, residentBytes());
    }
    const image = await session.commit(streamOf(entries), summaryOf(64 * MIB));
    assert.equal(image.status, 'available');
    assert.ok(peak - before < 150 * MIB, `${Math.round((peak - before) / MIB)} MiB more`);
  });
});

function residentBytes(): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * KIB;
}

/** Bytes that do not compress. */
function noise(seed: number, lengthBytes: number): Buffer {
  const bytes = Buffer.alloc(lengthBytes);
  let state = seed + 1;
  for (let at = 0; at < lengthBytes; at += 4) {
    state = (Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return bytes;
}
