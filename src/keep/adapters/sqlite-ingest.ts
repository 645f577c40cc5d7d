import { type Digest, type Id, IngotError } from '../../base/index.ts';
import type { PackEntry } from '../../bytes/index.ts';
import type { ChunkPlace, ImageRow, PackRow, PageRow, StagedPage } from '../library/catalogue.ts';
import type { SqliteConnection } from './sqlite-connection.ts';
import { insertImage, updateImage } from './sqlite-images.ts';
import { blobOf, LIVE, placesOf, QUARANTINED } from './sqlite-rows.ts';

/** Pages looked at before a chunk counts as not granted: the client then uploads it, which is safe. */
const MOST_PAGES_PER_GRANT = 1000;

/** The catalogue's calls for one ingest. */
export function ingestCalls(db: SqliteConnection) {
  return {
    beginSession(session: string): void {
      db.run('INSERT INTO temp.sessions (name) VALUES (?)', session);
    },

    endSession(session: string): void {
      db.transaction(() => {
        const id = sessionId(db, session);
        if (id === undefined) return;
        db.run('DELETE FROM temp.session_chunks WHERE session_id = ?', id);
        db.run('DELETE FROM temp.session_pages WHERE session_id = ?', id);
        db.run('DELETE FROM temp.sessions WHERE id = ?', id);
      });
    },

    grant(session: string, accountId: Id<'acc'>, digests: readonly Digest[]): boolean[] {
      return db.transaction(() => {
        const id = needSession(db, session);
        const rows = db.values(
          `SELECT j.key, c.id FROM json_each(?) j CROSS JOIN chunks c ON c.digest = unhex(j.value)
             WHERE c.state = ${LIVE} AND (
               EXISTS (SELECT 1 FROM temp.session_chunks sc
                 WHERE sc.session_id = ? AND sc.chunk_id = c.id)
               OR EXISTS (SELECT 1 FROM
                   (SELECT page_id FROM page_chunks WHERE chunk_id = c.id
                      LIMIT ${MOST_PAGES_PER_GRANT}) pc
                   CROSS JOIN image_pages ip ON ip.page_id = pc.page_id
                   CROSS JOIN state.images i ON i.id = ip.image_id
                 WHERE (i.owner_id = ? OR i.is_public = 1)
                   AND i.status IN ('available', 'deprecated')))`,
          JSON.stringify(digests),
          id,
          accountId,
        ) as number[][];
        return holdAll(db, id, rows, digests.length);
      });
    },

    deliver(session: string, digests: readonly Digest[]): boolean[] {
      return db.transaction(() => {
        const id = needSession(db, session);
        const rows = db.values(
          `SELECT j.key, c.id FROM json_each(?) j CROSS JOIN chunks c ON c.digest = unhex(j.value)
             WHERE c.state = ${LIVE}`,
          JSON.stringify(digests),
        ) as number[][];
        return holdAll(db, id, rows, digests.length);
      });
    },

    addPack(session: string | undefined, pack: PackRow, entries: readonly PackEntry[]): void {
      db.transaction(() => {
        const id = session === undefined ? undefined : needSession(db, session);
        const packNumber = addPackRow(db, pack);
        for (const entry of entries) {
          const chunk = addChunk(db, packNumber, entry);
          if (id !== undefined) hold(db, id, chunk);
        }
      });
    },

    placesFor(session: string, digests: readonly Digest[]): ChunkPlace[] {
      const id = needSession(db, session);
      const places = placesOf(
        db,
        digests,
        `c.state <> ${QUARANTINED} AND EXISTS (SELECT 1 FROM temp.session_chunks sc
           WHERE sc.session_id = ? AND sc.chunk_id = c.id)`,
        id,
      );
      return places.map((place, i) => {
        if (place !== undefined) return place;
        throw new IngotError(
          'chunk-missing',
          `the manifest names the chunk ${digests[i]}, which was neither granted nor delivered`,
          { digest: digests[i] ?? '' },
        );
      });
    },

    stagePages(session: string, firstNumber: number, pages: readonly StagedPage[]): void {
      db.transaction(() => {
        const id = needSession(db, session);
        for (const [i, { row, digests }] of pages.entries()) {
          db.run(
            'INSERT INTO temp.session_pages (session_id, number, page_id) VALUES (?, ?, ?)',
            id,
            firstNumber + i,
            addPage(db, row, digests),
          );
        }
      });
    },

    reserveImage(row: ImageRow): boolean {
      return db.transaction(() => insertImage(db, { ...row, status: 'creating' }));
    },

    commitImage(session: string, row: ImageRow): void {
      db.transaction(() => {
        const id = needSession(db, session);
        const moved = db.run(
          `INSERT INTO image_pages (image_id, number, page_id)
             SELECT ?, number, page_id FROM temp.session_pages WHERE session_id = ?`,
          row.id,
          id,
        );
        if (moved !== row.pageCount) {
          throw new RangeError(`${moved} of ${row.pageCount} pages of ${row.id} are staged`);
        }
      });
      // The state last: an image is there from this transaction on, and not before.
      db.transaction(() => {
        updateImage(db, row.id, row);
        db.run(
          `UPDATE state.images SET gzip_size_bytes = ?, added_bytes = ?, virtual_size_bytes = ?,
             claimed_digest = ?, page_count = ?, capture = ?, chunk_rule = ? WHERE id = ?`,
          row.gzipSizeBytes,
          row.addedBytes,
          row.virtualSizeBytes,
          row.claimedDigest ?? null,
          row.pageCount,
          JSON.stringify(row.capture),
          row.chunkRule,
          row.id,
        );
      });
    },
  };
}

/** Adds a pack, or returns the number of the one with this name. */
export function addPackRow(db: SqliteConnection, pack: PackRow): number {
  const known = db.get('SELECT id FROM packs WHERE name = ?', pack.packId);
  if (known !== undefined) return Number(known['id']);
  return db.insert(
    'INSERT INTO packs (name, size_bytes) VALUES (?, ?)',
    pack.packId,
    pack.sizeBytes,
  );
}

/** Adds a page with its chunks; one that is there stays as it is. Every chunk must be known. */
export function addPage(db: SqliteConnection, page: PageRow, digests: readonly Digest[]): number {
  const blob = blobOf(page.digest);
  const known = db.get('SELECT id FROM pages WHERE digest = ?', blob);
  if (known !== undefined) return Number(known['id']);
  const pageId = db.insert(
    `INSERT INTO pages (digest, entries, plain_bytes, coded_bytes, plain_crc, coded_tag)
       VALUES (?, ?, ?, ?, ?, ?)`,
    blob,
    page.entries,
    page.plainBytes,
    page.layout?.codedBytes ?? null,
    page.layout?.plainCrc32 ?? null,
    page.layout === undefined ? null : blobOf(page.layout.codedTag),
  );
  db.run(
    `INSERT OR IGNORE INTO page_chunks (chunk_id, page_id)
       SELECT c.id, ? FROM json_each(?) j CROSS JOIN chunks c ON c.digest = unhex(j.value)`,
    pageId,
    JSON.stringify(digests),
  );
  return pageId;
}

/** Makes a chunk known. A healthy copy that is there stays; another one is replaced. */
function addChunk(db: SqliteConnection, packNumber: number, entry: PackEntry): number {
  const digest = blobOf(entry.digest);
  const known = db.get('SELECT id, state FROM chunks WHERE digest = ?', digest);
  if (known === undefined) {
    return db.insert(
      `INSERT INTO chunks
         (digest, pack_id, offset_bytes, coded_bytes, plain_bytes, plain_crc, coded_crc)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
      digest,
      packNumber,
      entry.offsetBytes,
      entry.codedBytes,
      entry.plainBytes,
      entry.plainCrc32,
      entry.codedCrc32,
    );
  }
  const chunk = Number(known['id']);
  if (known['state'] === LIVE) return chunk;
  db.run(
    `UPDATE chunks SET pack_id = ?, offset_bytes = ?, coded_bytes = ?, plain_bytes = ?,
       plain_crc = ?, coded_crc = ?, state = ${LIVE} WHERE id = ?`,
    packNumber,
    entry.offsetBytes,
    entry.codedBytes,
    entry.plainBytes,
    entry.plainCrc32,
    entry.codedCrc32,
    chunk,
  );
  if (known['state'] === QUARANTINED) forgetLayouts(db, chunk);
  return chunk;
}

/** The coded bytes of a healed chunk may differ: every page that has it is measured again. */
function forgetLayouts(db: SqliteConnection, chunk: number): void {
  db.run(
    `UPDATE pages SET coded_bytes = NULL, plain_crc = NULL, coded_tag = NULL
       WHERE id IN (SELECT page_id FROM page_chunks WHERE chunk_id = ?)`,
    chunk,
  );
}

/** Notes chunks for a session; returns for each place in a list whether there was one. */
function holdAll(
  db: SqliteConnection,
  session: number,
  rows: readonly number[][],
  count: number,
): boolean[] {
  const isHeld: boolean[] = new Array(count).fill(false);
  for (const [key = 0, chunk = 0] of rows) {
    hold(db, session, chunk);
    isHeld[key] = true;
  }
  return isHeld;
}

function hold(db: SqliteConnection, session: number, chunk: number): void {
  db.run(
    'INSERT OR IGNORE INTO temp.session_chunks (session_id, chunk_id) VALUES (?, ?)',
    session,
    chunk,
  );
}

function sessionId(db: SqliteConnection, session: string): number | undefined {
  const row = db.get('SELECT id FROM temp.sessions WHERE name = ?', session);
  return row === undefined ? undefined : Number(row['id']);
}

function needSession(db: SqliteConnection, session: string): number {
  const id = sessionId(db, session);
  if (id === undefined) {
    throw new IngotError('ingest-expired', `the ingest ${session} is over`, { ingest: session });
  }
  return id;
}
