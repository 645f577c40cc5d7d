import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { systemClock } from '../../src/base/index.ts';
import { bytesOf } from '../contracts/ingest-session.ts';
import type { UploadClient, WireImport } from '../fakes/upload-client.ts';
import { uploadClient } from '../fakes/upload-client.ts';
import { daemonFolder } from './child-daemon.ts';
import { eventually } from './ingot-command.ts';
import { POWERED_KINDS, PoweredFilesystem, skipWithout } from './powered-filesystem.ts';

const TRIALS = Number(process.env['INGOT_POWER_CUTS'] ?? 2);
const PIECE_BYTES = 200_000;
const PIECES = 5;

/** What a client sends, and what it was told of it before the power went. */
interface Upload {
  readonly disk: Buffer;
  readonly name: string;
  imageId?: string;
  /** Bytes of which an answer said that they are there. */
  toldBytes: number;
  /** Whether an answer said that all of them are there. */
  isToldWhole: boolean;
}

function newUpload(name: string, seed: number): Upload {
  return { disk: bytesOf(seed, PIECES * PIECE_BYTES), name, toldBytes: 0, isToldWhole: false };
}

async function sendInPieces(client: UploadClient, upload: Upload): Promise<void> {
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ name: upload.name, size_bytes: upload.disk.byteLength });
  const begun = await client.send('POST', '/images', { headers, body });
  if (begun.status !== 201) throw new Error(await begun.text());
  upload.imageId = ((await begun.json()) as WireImport).image.id;
  while (upload.toldBytes < upload.disk.byteLength) {
    const next = upload.toldBytes + PIECE_BYTES;
    const answer = await client.send('PATCH', `/images/${upload.imageId}/upload`, {
      headers: { 'upload-offset': `${upload.toldBytes}` },
      body: upload.disk.subarray(upload.toldBytes, next),
    });
    if (!answer.ok) throw new Error(await answer.text());
    upload.toldBytes = next;
    upload.isToldWhole = answer.status === 202;
  }
}

async function sendWhole(client: UploadClient, upload: Upload): Promise<void> {
  const body = upload.disk;
  const answer = await client.send('PUT', `/images?name=${upload.name}`, { body });
  if (!answer.ok) throw new Error(await answer.text());
  upload.imageId = ((await answer.json()) as WireImport).image.id;
  upload.toldBytes = upload.disk.byteLength;
  upload.isToldWhole = true;
}

/** Sends uploads until the power goes, and lists them. */
async function sendUntilEnd(client: UploadClient, trial: number, uploads: Upload[]): Promise<void> {
  const run = async (lane: number, send: typeof sendWhole): Promise<void> => {
    for (let n = 0; ; n++) {
      const upload = newUpload(`u-${trial}-${lane}-${n}`, trial * 1000 + lane * 100 + n);
      uploads.push(upload);
      try {
        await send(client, upload);
      } catch {
        return;
      }
    }
  };
  await Promise.all([run(0, sendInPieces), run(1, sendWhole)]);
}

async function check(client: UploadClient, upload: Upload): Promise<void> {
  const { imageId, disk, toldBytes, isToldWhole } = upload;
  if (imageId === undefined) return;
  const head = await client.send('HEAD', `/images/${imageId}/upload`);
  if (!isToldWhole && head.status === 204 && head.headers.get('upload-complete') === '?0') {
    const offset = Number(head.headers.get('upload-offset'));
    assert.ok(offset >= toldBytes, `${offset} of ${toldBytes} bytes of ${upload.name}`);
    const headers = { 'upload-offset': `${offset}` };
    const body = disk.subarray(offset);
    const sent = await client.send('PATCH', `/images/${imageId}/upload`, { headers, body });
    assert.equal(sent.status, 202, await sent.text());
  }
  const image = await client.settled(imageId);
  assert.equal(image.status, 'available', `${upload.name}: ${image.failure}`);
  await isWhole(client, imageId, disk);
}

async function isWhole(client: UploadClient, imageId: string, disk: Buffer): Promise<void> {
  const raw = await client.send('GET', `/images/${imageId}/raw`);
  assert.ok(Buffer.from(await raw.arrayBuffer()).equals(disk), `${imageId} has other bytes`);
}

/** Whatever is listed is whole, also what nobody was told of. */
async function checkListed(client: UploadClient, uploads: readonly Upload[]): Promise<void> {
  const listed = await client.send('GET', '/images?limit=100');
  const { images } = (await listed.json()) as { images: { id: string; name: string }[] };
  for (const { id, name } of images) {
    const upload = uploads.find((one) => one.name === name);
    if (upload !== undefined) await isWhole(client, id, upload.disk);
  }
}

for (const [name, { mkfs, sizeBytes }] of Object.entries(POWERED_KINDS)) {
  describe(`a power cut in uploads under ${name}`, {
    skip: skipWithout('xfs_io', mkfs[0]),
  }, () => {
    test(`loses no piece and no upload that was acknowledged (${TRIALS} cuts)`, async () => {
      await using disk = new PoweredFilesystem(mkfs, sizeBytes);
      const daemons = daemonFolder(disk.mountPoint);
      after(() => daemons.killAll());
      const options = ['--disk-reserve', '1M'];
      let told = 0;
      let daemon = await daemons.start(...options);
      for (let trial = 0; trial < TRIALS; trial++) {
        const uploads: Upload[] = [];
        const sending = sendUntilEnd(await uploadClient(daemon.env), trial, uploads);
        await systemClock.sleep(100 + Math.random() * 600);
        // A busy machine has acknowledged nothing by then.
        const hasTold = () => uploads.some(({ toldBytes }) => toldBytes > 0) || undefined;
        if (trial === 0) await eventually('an answer', hasTold);
        disk.cutPower();
        await daemon.end('SIGKILL');
        await sending;
        told += uploads.reduce((sum, { toldBytes }) => sum + toldBytes, 0);
        disk.unmount();
        disk.mount();
        daemon = await daemons.start(...options);
        const client = await uploadClient(daemon.env);
        for (const upload of uploads) await check(client, upload);
        await checkListed(client, uploads);
        for (const { imageId } of uploads) {
          if (imageId !== undefined) await client.send('DELETE', `/images/${imageId}`);
        }
      }
      await daemon.end('SIGTERM');
      assert.ok(told > 0, 'nothing was acknowledged');
    });
  });
}
