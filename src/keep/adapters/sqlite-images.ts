import type { Digest, Id } from '../../base/index.ts';
import type {
  ChunkPlace,
  ImageChanges,
  ImageFilter,
  ImageRow,
  LibraryCounts,
  PageLayout,
  PageRow,
} from '../library/catalogue.ts';
import type { SqliteConnection } from './sqlite-connection.ts';
import { blobOf, imageOf, LIVE, pageOf, placesOf, QUARANTINED } from './sqlite-rows.ts';

/** The catalogue's calls for readers and owners of images. */
export function imageCalls(db: SqliteConnection) {
  return {
    images(filter: ImageFilter): ImageRow[] {
      const { accountId, statuses, afterId, limit } = filter;
      const marks = statuses.map(() => '?').join(', ');
      const visible = accountId === undefined ? '' : 'AND (owner_id = ? OR is_public = 1)';
      return db
        .all(
          `SELECT * FROM state.images WHERE id > ? AND status IN (${marks}) ${visible}
             ORDER BY id LIMIT ?`,
          afterId,
          ...statuses,
          ...(accountId === undefined ? [] : [accountId]),
          limit,
        )
        .map(imageOf);
    },

    image(imageId: string): ImageRow | undefined {
      const row = db.get('SELECT * FROM state.images WHERE id = ?', imageId);
      return row === undefined ? undefined : imageOf(row);
    },

    updateImage(imageId: string, changes: ImageChanges): void {
      db.transaction(() => updateImage(db, imageId, changes));
    },

    imagePages(imageId: string): PageRow[] {
      return db
        .all(
          `SELECT pg.* FROM image_pages ip JOIN pages pg ON pg.id = ip.page_id
             WHERE ip.image_id = ? ORDER BY ip.number`,
          imageId,
        )
        .map(pageOf);
    },

    setPageLayout(page: Digest, layout: PageLayout): void {
      db.run(
        'UPDATE pages SET coded_bytes = ?, plain_crc = ?, coded_tag = ? WHERE digest = ?',
        layout.codedBytes,
        layout.plainCrc32,
        blobOf(layout.codedTag),
        blobOf(page),
      );
    },

    releasePages(imageId: string): void {
      db.run('DELETE FROM image_pages WHERE image_id = ?', imageId);
    },

    locate(digests: readonly Digest[]): (ChunkPlace | undefined)[] {
      return placesOf(db, digests);
    },

    quarantine(places: readonly Copy[]): void {
      setState(db, places, { from: LIVE, to: QUARANTINED });
    },

    endQuarantine(places: readonly Copy[]): void {
      setState(db, places, { from: QUARANTINED, to: LIVE });
    },

    imagesWith(digests: readonly Digest[], limit: number): Id<'img'>[] {
      const found = new Set<Id<'img'>>();
      for (const digest of digests) {
        const rows = db.all(
          `SELECT DISTINCT ip.image_id FROM chunks c
             JOIN page_chunks pc ON pc.chunk_id = c.id JOIN image_pages ip ON ip.page_id = pc.page_id
             WHERE c.digest = ? ORDER BY ip.image_id LIMIT ?`,
          blobOf(digest),
          limit,
        );
        for (const row of rows) found.add(row['image_id'] as Id<'img'>);
        if (found.size >= limit) break;
      }
      return [...found].sort().slice(0, limit);
    },

    imagesWithoutDigest(
      mostBytes: number,
      limit: number,
    ): { readonly id: Id<'img'>; readonly ownerId: Id<'acc'> }[] {
      return db
        .all(
          `SELECT id, owner_id FROM state.images i
             WHERE plain_digest IS NULL AND status IN ('available', 'deprecated')
               AND virtual_size_bytes <= ?
               AND NOT EXISTS (SELECT 1 FROM state.jobs
                 WHERE kind = 'plain-digest' AND subject = i.id)
             ORDER BY id LIMIT ?`,
          mostBytes,
          limit,
        )
        .map((row) => ({ id: row['id'] as Id<'img'>, ownerId: row['owner_id'] as Id<'acc'> }));
    },

    counts(): LibraryCounts {
      const packs = db.get('SELECT count(*) AS n, total(size_bytes) AS bytes FROM packs');
      const chunks = db.get(
        `SELECT count(*) AS n, total(coded_bytes) FILTER (WHERE state = 0) AS live,
           total(coded_bytes) FILTER (WHERE state = 1) AS condemned,
           count(*) FILTER (WHERE state = 2) AS quarantined,
           total(plain_bytes) FILTER (WHERE state = 0) AS plain FROM chunks`,
      );
      const images = db.get(
        `SELECT count(*) AS n, total(virtual_size_bytes) AS bytes FROM state.images
           WHERE status IN ('available', 'deprecated')`,
      );
      return {
        images: Number(images?.['n']),
        packs: Number(packs?.['n']),
        packBytes: Number(packs?.['bytes']),
        chunks: Number(chunks?.['n']),
        liveBytes: Number(chunks?.['live']),
        condemnedBytes: Number(chunks?.['condemned']),
        quarantinedChunks: Number(chunks?.['quarantined']),
        plainBytes: Number(chunks?.['plain']),
        virtualBytes: Number(images?.['bytes']),
      };
    },
  };
}

/** One stored copy of a chunk. */
interface Copy {
  readonly digest: Digest;
  readonly packId: string;
}

/** Changes the state of copies that are still where they were, in the state that they were. */
function setState(
  db: SqliteConnection,
  copies: readonly Copy[],
  { from, to }: { readonly from: number; readonly to: number },
): void {
  db.transaction(() => {
    for (const { digest, packId } of copies) {
      db.run(
        `UPDATE chunks SET state = ? WHERE digest = ? AND state = ?
           AND pack_id = (SELECT id FROM packs WHERE name = ?)`,
        to,
        blobOf(digest),
        from,
        packId,
      );
    }
  });
}

/** @returns false when the id is taken */
export function insertImage(db: SqliteConnection, row: ImageRow): boolean {
  const added = db.run(
    `INSERT OR IGNORE INTO state.images VALUES
       (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    row.id,
    row.ownerId,
    row.status,
    Number(row.isPublic),
    Number(row.isOfficial),
    Number(row.isLocked),
    row.name,
    row.description,
    row.kind,
    row.arch,
    row.ancestorId ?? null,
    Number(row.compatibilityMode),
    row.createdAt,
    row.virtualSizeBytes,
    row.gzipSizeBytes,
    row.addedBytes,
    row.plainDigest ?? null,
    row.claimedDigest ?? null,
    row.chunkRule,
    row.pageCount,
    JSON.stringify(row.capture),
    row.failure ?? null,
  );
  return added === 1;
}

const CHANGEABLE = {
  name: 'name',
  description: 'description',
  arch: 'arch',
  compatibilityMode: 'compatibility_mode',
  status: 'status',
  isPublic: 'is_public',
  isOfficial: 'is_official',
  isLocked: 'is_locked',
  plainDigest: 'plain_digest',
  failure: 'failure',
} as const satisfies Record<keyof ImageChanges, string>;

/** Writes the members of `changes` that an image may change; others are left alone. */
export function updateImage(db: SqliteConnection, imageId: string, changes: ImageChanges): void {
  for (const [member, column] of Object.entries(CHANGEABLE)) {
    const value = changes[member as keyof ImageChanges];
    if (value === undefined) continue;
    db.run(
      `UPDATE state.images SET ${column} = ? WHERE id = ?`,
      typeof value === 'boolean' ? Number(value) : value,
      imageId,
    );
  }
}

/** Chunks that no page and no session holds; alias `c`. */
export const UNREFERENCED = `c.state <> 1
  AND NOT EXISTS (SELECT 1 FROM page_chunks pc WHERE pc.chunk_id = c.id)
  AND NOT EXISTS (SELECT 1 FROM temp.session_chunks sc WHERE sc.chunk_id = c.id)`;

/** Coded bytes of all live chunks. */
export function liveBytes(db: SqliteConnection): number {
  return Number(
    db.get(`SELECT total(coded_bytes) AS n FROM chunks WHERE state = ${LIVE}`)?.['n'] ?? 0,
  );
}
