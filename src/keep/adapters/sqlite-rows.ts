import { type Digest, digestFromBytes, type Id } from '../../base/index.ts';
import type { Account, ApiClient } from '../accounts/account-catalogue.ts';
import type { Job, JobKind, JobState } from '../jobs/job-catalogue.ts';
import type { ChunkPlace, ImageRow, PageRow } from '../library/catalogue.ts';
import type { ImageKind, ImageStatus } from '../library/image.ts';
import type { Row, SqliteConnection } from './sqlite-connection.ts';

/** Numbers of {@link ChunkPlace.state} in the index. */
export const LIVE = 0;
export const CONDEMNED = 1;
export const QUARANTINED = 2;
const STATES = ['live', 'condemned', 'quarantined'] as const;

/** Columns of {@link placeOf}. */
export const PLACE_COLUMNS =
  'c.id, c.digest, p.name AS pack, c.offset_bytes, c.coded_bytes, c.plain_bytes, c.plain_crc, c.coded_crc, c.state';

/** @returns what a TEXT column holds; the tables are STRICT, so anything else is a bug */
export function textOf(value: Row[string] | undefined): string {
  if (typeof value !== 'string') throw new TypeError(`a column holds ${typeof value}, not text`);
  return value;
}

export function blobOf(digest: Digest): Buffer {
  return Buffer.from(digest, 'hex');
}

/**
 * Finds many chunks with one statement.
 *
 * @param where a condition on the chunk `c`, with `values` for its marks
 * @returns one place per digest, in their order; undefined where there is none
 */
export function placesOf(
  db: SqliteConnection,
  digests: readonly Digest[],
  where = '1',
  ...values: number[]
): (ChunkPlace | undefined)[] {
  const rows = db.values(
    `SELECT j.key, c.pack_id, c.offset_bytes, c.coded_bytes, c.plain_bytes, c.plain_crc,
       c.coded_crc, c.state
     FROM json_each(?) j CROSS JOIN chunks c ON c.digest = unhex(j.value) WHERE ${where}`,
    JSON.stringify(digests),
    ...values,
  ) as number[][];
  const packs = new Map<number, string>();
  const places: (ChunkPlace | undefined)[] = new Array(digests.length).fill(undefined);
  for (const row of rows) {
    const [key = 0, pack = 0, offsetBytes = 0, codedBytes = 0, plainBytes = 0] = row;
    let packId = packs.get(pack);
    if (packId === undefined) {
      packId = textOf(db.get('SELECT name FROM packs WHERE id = ?', pack)?.['name']);
      packs.set(pack, packId);
    }
    places[key] = {
      digest: digests[key] as Digest,
      packId,
      offsetBytes,
      codedBytes,
      plainBytes,
      plainCrc32: row[5] ?? 0,
      codedCrc32: row[6] ?? 0,
      state: STATES[row[7] ?? QUARANTINED] ?? 'quarantined',
    };
  }
  return places;
}

export function placeOf(row: Row): ChunkPlace {
  return {
    digest: digestFromBytes(row['digest'] as Uint8Array),
    packId: textOf(row['pack']),
    offsetBytes: Number(row['offset_bytes']),
    codedBytes: Number(row['coded_bytes']),
    plainBytes: Number(row['plain_bytes']),
    plainCrc32: Number(row['plain_crc']),
    codedCrc32: Number(row['coded_crc']),
    state: STATES[Number(row['state'])] ?? 'quarantined',
  };
}

export function pageOf(row: Row): PageRow {
  const tag = row['coded_tag'];
  return {
    digest: digestFromBytes(row['digest'] as Uint8Array),
    entries: Number(row['entries']),
    plainBytes: Number(row['plain_bytes']),
    layout:
      tag === null || tag === undefined
        ? undefined
        : {
            codedBytes: Number(row['coded_bytes']),
            plainCrc32: Number(row['plain_crc']),
            codedTag: digestFromBytes(tag as Uint8Array),
          },
  };
}

export function imageOf(row: Row): ImageRow {
  return {
    id: row['id'] as Id<'img'>,
    ownerId: row['owner_id'] as Id<'acc'>,
    status: row['status'] as ImageStatus,
    isPublic: row['is_public'] === 1,
    isOfficial: row['is_official'] === 1,
    isLocked: row['is_locked'] === 1,
    name: textOf(row['name']),
    description: textOf(row['description']),
    kind: row['kind'] as ImageKind,
    arch: textOf(row['arch']),
    ancestorId: (row['ancestor_id'] ?? undefined) as Id<'img'> | undefined,
    compatibilityMode: row['compatibility_mode'] === 1,
    createdAt: Number(row['created_at']),
    virtualSizeBytes: Number(row['virtual_size_bytes']),
    gzipSizeBytes: Number(row['gzip_size_bytes']),
    addedBytes: Number(row['added_bytes']),
    plainDigest: (row['plain_digest'] ?? undefined) as Digest | undefined,
    claimedDigest: (row['claimed_digest'] ?? undefined) as Digest | undefined,
    chunkRule: textOf(row['chunk_rule']),
    pageCount: Number(row['page_count']),
    capture: captureOf(textOf(row['capture'])),
    ...(typeof row['failure'] === 'string' ? { failure: row['failure'] } : {}),
  };
}

/** JSON has no undefined: a member that is not there comes back as one that is. */
function captureOf(json: string): ImageRow['capture'] {
  return { filesystem: undefined, ...JSON.parse(json) };
}

export function accountOf(row: Row): Account {
  return {
    id: row['id'] as Id<'acc'>,
    name: textOf(row['name']),
    createdAt: Number(row['created_at']),
  };
}

export function clientOf(row: Row): ApiClient {
  return {
    id: row['id'] as Id<'cli'>,
    accountId: row['account_id'] as Id<'acc'>,
    name: textOf(row['name']),
    secretHash: textOf(row['secret_hash']),
    createdAt: Number(row['created_at']),
    isRevoked: row['is_revoked'] === 1,
  };
}

export function jobOf(row: Row): Job {
  return {
    id: row['id'] as Id<'job'>,
    kind: row['kind'] as JobKind,
    subject: textOf(row['subject']),
    accountId: (row['account_id'] ?? undefined) as Id<'acc'> | undefined,
    state: row['state'] as JobState,
    owner: textOf(row['owner']),
    leaseUntil: Number(row['lease_until']),
    attempts: Number(row['attempts']),
    doneBytes: Number(row['done_bytes']),
    totalBytes: row['total_bytes'] === null ? undefined : Number(row['total_bytes']),
    stage: textOf(row['stage']),
    checkpoint: textOf(row['checkpoint']),
    outcome: textOf(row['outcome']),
    createdAt: Number(row['created_at']),
    finishedAt: row['finished_at'] === null ? undefined : Number(row['finished_at']),
  };
}
