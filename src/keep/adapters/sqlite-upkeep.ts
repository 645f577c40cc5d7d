import type { Digest } from '../../base/index.ts';
import type { PackEntry } from '../../bytes/index.ts';
import type { ChunkPlace, ImageRow, PackRow, PackUsage, PageRow } from '../library/catalogue.ts';
import type { SqliteConnection } from './sqlite-connection.ts';
import { insertImage, liveBytes, UNREFERENCED } from './sqlite-images.ts';
import { addPackRow, addPage } from './sqlite-ingest.ts';
import {
  blobOf,
  CONDEMNED,
  LIVE,
  PLACE_COLUMNS,
  pageOf,
  placeOf,
  placesOf,
  textOf,
} from './sqlite-rows.ts';

/** The catalogue's calls for collection, verify and rebuild. */
export function upkeepCalls(db: SqliteConnection) {
  return {
    packs(afterPackId: string, limit: number): PackRow[] {
      return db
        .all('SELECT * FROM packs WHERE name > ? ORDER BY name LIMIT ?', afterPackId, limit)
        .map((row) => ({ packId: textOf(row['name']), sizeBytes: Number(row['size_bytes']) }));
    },

    chunksOfPack(packId: string): ChunkPlace[] {
      return db
        .all(
          `SELECT ${PLACE_COLUMNS} FROM packs p JOIN chunks c ON c.pack_id = p.id
             WHERE p.name = ? ORDER BY c.offset_bytes`,
          packId,
        )
        .map(placeOf);
    },

    pages(afterDigest: string, limit: number): PageRow[] {
      return db
        .all(
          `SELECT * FROM pages pg WHERE digest > ?
             AND EXISTS (SELECT 1 FROM image_pages ip WHERE ip.page_id = pg.id)
             ORDER BY digest LIMIT ?`,
          Buffer.from(afterDigest, 'hex'),
          limit,
        )
        .map(pageOf);
    },

    sweepPages(limit: number): number {
      return db.transaction(() => {
        const rows = db.all(
          `SELECT id FROM pages pg
             WHERE NOT EXISTS (SELECT 1 FROM image_pages ip WHERE ip.page_id = pg.id)
               AND NOT EXISTS (SELECT 1 FROM temp.session_pages sp WHERE sp.page_id = pg.id)
             LIMIT ?`,
          limit,
        );
        if (rows.length === 0) return 0;
        // One pass over the pairs for all pages: they are sorted by chunk, for dedup.
        const ids = rows.map((row) => Number(row['id'])).join(', ');
        db.run(
          'DELETE FROM page_chunks WHERE page_id IN (SELECT value FROM json_each(?))',
          `[${ids}]`,
        );
        db.run('DELETE FROM pages WHERE id IN (SELECT value FROM json_each(?))', `[${ids}]`);
        return rows.length;
      });
    },

    unknownPages(digests: readonly Digest[]): Digest[] {
      return digests.filter(
        (digest) => db.get('SELECT 1 FROM pages WHERE digest = ?', blobOf(digest)) === undefined,
      );
    },

    unreferenced(): { unreferencedBytes: number; liveBytes: number } {
      const row = db.get(
        `SELECT total(c.coded_bytes) AS n FROM chunks c WHERE c.state = ${LIVE} AND ${UNREFERENCED}`,
      );
      return { unreferencedBytes: Number(row?.['n'] ?? 0), liveBytes: liveBytes(db) };
    },

    condemn(): number {
      return db.transaction(() =>
        db.run(
          `UPDATE chunks SET state = ${CONDEMNED}
             WHERE id IN (SELECT c.id FROM chunks c WHERE ${UNREFERENCED})`,
        ),
      );
    },

    spare(digests: readonly Digest[]): number {
      return db.transaction(() => {
        let spared = 0;
        for (const digest of digests) {
          spared += db.run(
            `UPDATE chunks SET state = ${LIVE} WHERE digest = ? AND state = ${CONDEMNED}`,
            blobOf(digest),
          );
        }
        return spared;
      });
    },

    packUsage(): PackUsage[] {
      return db
        .all(
          `SELECT p.name, p.size_bytes,
             total(c.coded_bytes) FILTER (WHERE c.state = 0) AS live,
             count(c.id) FILTER (WHERE c.state = 0) AS live_chunks,
             total(c.coded_bytes) FILTER (WHERE c.state = 1) AS condemned,
             total(c.coded_bytes) FILTER (WHERE c.state = 2) AS quarantined
           FROM packs p LEFT JOIN chunks c ON c.pack_id = p.id GROUP BY p.id ORDER BY p.name`,
        )
        .map((row) => ({
          packId: textOf(row['name']),
          sizeBytes: Number(row['size_bytes']),
          liveBytes: Number(row['live']),
          liveChunks: Number(row['live_chunks']),
          condemnedBytes: Number(row['condemned']),
          quarantinedBytes: Number(row['quarantined']),
        }));
    },

    retirePack(packId: string): boolean {
      return db.transaction(() => {
        const pack = db.get('SELECT id FROM packs WHERE name = ?', packId);
        if (pack === undefined) return true;
        const id = Number(pack['id']);
        db.run(`DELETE FROM chunks WHERE pack_id = ? AND state = ${CONDEMNED}`, id);
        if (db.get('SELECT 1 FROM chunks WHERE pack_id = ? LIMIT 1', id) !== undefined)
          return false;
        db.run('DELETE FROM packs WHERE id = ?', id);
        return true;
      });
    },

    movePack(fromPackIds: readonly string[], pack: PackRow, entries: readonly PackEntry[]): void {
      db.transaction(() => {
        const to = addPackRow(db, pack);
        const from = JSON.stringify(fromPackIds);
        for (const entry of entries) {
          db.run(
            `UPDATE chunks SET pack_id = ?, offset_bytes = ? WHERE digest = ? AND state = ${LIVE}
               AND pack_id IN (SELECT id FROM packs WHERE name IN (SELECT value FROM json_each(?)))`,
            to,
            entry.offsetBytes,
            blobOf(entry.digest),
            from,
          );
        }
      });
    },

    beginRebuild(): void {
      db.transaction(() => {
        db.run("INSERT OR REPLACE INTO facts VALUES ('incomplete', 'yes')");
        for (const table of ['image_pages', 'page_chunks', 'pages', 'chunks', 'packs']) {
          db.run(`DELETE FROM ${table}`);
        }
      });
    },

    adoptPage(imageId: string, number: number, page: PageRow, digests: readonly Digest[]): boolean {
      return db.transaction(() => {
        if (placesOf(db, digests).includes(undefined)) return false;
        db.run(
          'INSERT OR REPLACE INTO image_pages (image_id, number, page_id) VALUES (?, ?, ?)',
          imageId,
          number,
          addPage(db, page, digests),
        );
        return true;
      });
    },

    adoptImage(row: ImageRow): void {
      db.transaction(() => insertImage(db, row));
    },

    endRebuild(): void {
      db.run("DELETE FROM facts WHERE name = 'incomplete'");
    },

    isIndexIncomplete(): boolean {
      return db.get("SELECT 1 FROM facts WHERE name = 'incomplete'") !== undefined;
    },
  };
}
