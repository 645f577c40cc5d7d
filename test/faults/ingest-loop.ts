import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { NODE_FLAGS, systemClock } from '../../src/base/index.ts';
import { DirectoryLibrary } from '../../src/keep/index.ts';
import { bytesOf, ingest, segmentOf } from '../contracts/ingest-session.ts';
import { ACCOUNT, partsIn, readDisk } from '../contracts/test-library.ts';

const LIMITS = { packBytes: 60_000, digestBytes: 0, reserveBytes: 1024 * 1024 };
const CHUNKS = 40;

/** The chunks of the image with this number: half of them are the image's before it. */
function planOf(number: number): Buffer[] {
  return Array.from({ length: CHUNKS }, (_, i) => bytesOf((number * CHUNKS) / 2 + i, 3000 + i));
}

/**
 * Takes images in, deletes some and collects, for ever, and says on stdout what was acknowledged.
 *
 * Runs in a process of its own, which somebody kills.
 */
async function runIngestLoop(folder: string, from: number): Promise<never> {
  await using library = await DirectoryLibrary.open(partsIn(folder, { limits: LIMITS }));
  const account = library.forAccount(ACCOUNT);
  for (let number = from; ; number++) {
    const image = await ingest(account, `image-${number}`, planOf(number).map(segmentOf));
    process.stdout.write(`made ${number} ${image.id}\n`);
    if (number % 3 !== 2) continue;
    process.stdout.write(`deleting ${number - 1}\n`);
    const old = (await account.list()).find(({ name }) => name === `image-${number - 1}`);
    await account.destroy(old?.id ?? '');
    process.stdout.write(`deleted ${number - 1} ${old?.id}\n`);
    await library.collect({ isForced: true });
  }
}

/**
 * Does the upkeep of a library, for ever: rebuilds its index, takes an image in, deletes another,
 * verifies, collects, and begins again. Says the same words as the loop above.
 */
async function runUpkeepLoop(folder: string, from: number): Promise<never> {
  for (let number = from; ; number++) {
    await using library = await DirectoryLibrary.open({
      ...partsIn(folder, { limits: LIMITS }),
      isRebuild: true,
    });
    const account = library.forAccount(ACCOUNT);
    const image = await ingest(account, `image-${number}`, planOf(number).map(segmentOf));
    process.stdout.write(`made ${number} ${image.id}\n`);
    const old = (await account.list()).find(({ name }) => name === `image-${number - 2}`);
    if (old !== undefined) {
      process.stdout.write(`deleting ${number - 2}\n`);
      await account.destroy(old.id);
      process.stdout.write(`deleted ${number - 2}\n`);
    }
    await library.verify();
    await library.collect({ isForced: true });
  }
}

/** What a killed process has said. */
interface Told {
  readonly made: Map<number, string>;
  /** Asked to be deleted: it may be there or not. */
  readonly deleting: Set<number>;
  /** By id: an image that was made and not told has the name of the next one. */
  readonly deleted: Set<string>;
}

export function nothingTold(): Told {
  return { made: new Map(), deleting: new Set(), deleted: new Set() };
}

/** The loop in a process of its own. */
interface IngestLoop {
  readonly child: ChildProcess;
  /** Settles when everything that it said was heard. */
  readonly ended: Promise<void>;
}

/** What the loop does: mostly ingests, or mostly the upkeep between them. */
type LoopKind = 'ingest' | 'upkeep';

/** Starts the loop in a process of its own; `told` grows as it speaks. Returns after its first image. */
export async function startIngestLoop(
  file: string,
  folder: string,
  told: Told,
  kind: LoopKind = 'ingest',
): Promise<IngestLoop> {
  // The image behind the last one that was told may be there: it was killed before it could say so.
  const from = Math.max(0, ...told.made.keys()) + 2;
  const child = spawn(process.execPath, [...NODE_FLAGS, file], {
    env: {
      ...process.env,
      INGOT_LOOP_FOLDER: folder,
      INGOT_LOOP_FROM: String(from),
      INGOT_LOOP_KIND: kind,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
  const ended = once(lines, 'close').then(() => undefined);
  lines.on('line', (line) => {
    const [what, number, id] = line.split(' ');
    if (what === 'made') told.made.set(Number(number), id ?? '');
    if (what === 'deleting') told.deleting.add(Number(number));
    if (what === 'deleted') told.deleted.add(id ?? '');
  });
  for (let left = 1500; !told.made.has(from); left--) {
    assert.ok(left > 0 && child.exitCode === null, 'the loop has made no image');
    await systemClock.sleep(20);
  }
  return { child, ended };
}

/** Runs the loop when this process was started for that. */
export async function mayBeIngestLoop(): Promise<boolean> {
  const folder = process.env['INGOT_LOOP_FOLDER'];
  if (folder === undefined) return false;
  const run = process.env['INGOT_LOOP_KIND'] === 'upkeep' ? runUpkeepLoop : runIngestLoop;
  await run(folder, Number(process.env['INGOT_LOOP_FROM']));
  return true;
}

/** Opens the library again: clean, everything acknowledged whole, everything deleted gone. */
export async function checkAfterwards(folder: string, told: Told): Promise<void> {
  await using library = await DirectoryLibrary.open(partsIn(folder, { limits: LIMITS }));
  const account = library.forAccount(ACCOUNT);
  const report = await library.verify();
  assert.equal(report.isClean, true, JSON.stringify(report));
  const images = new Map((await account.list()).map(({ name, id }) => [name, id]));
  for (const [number, id] of told.made) {
    if (told.deleting.has(number)) continue;
    assert.equal(images.get(`image-${number}`), id, `image-${number} was acknowledged and is lost`);
  }
  const ids = new Set((await account.list()).map(({ id }) => String(id)));
  for (const id of told.deleted) assert.ok(!ids.has(id), `${id} is back`);
  for (const [name, id] of images) {
    const plan = Buffer.concat(planOf(Number(name.slice('image-'.length))));
    assert.ok((await readDisk(account, id)).equals(plan), `${name} is not what was taken in`);
  }
}
