import type { ImportChanges, ImportOrder } from '../imports/import-order.ts';
import type { ImageRow } from '../library/catalogue.ts';
import type { Row, SqliteConnection } from './sqlite-connection.ts';
import { insertImage } from './sqlite-images.ts';
import { textOf } from './sqlite-rows.ts';

/** The catalogue's calls for imports. */
export function importCalls(db: SqliteConnection) {
  const find = (imageId: string): ImportOrder | undefined => {
    const row = db.get('SELECT document FROM state.imports WHERE image_id = ?', imageId);
    return row === undefined ? undefined : orderOf(row);
  };
  return {
    addImport(row: ImageRow, order: ImportOrder): boolean {
      return db.transaction(() => {
        if (!insertImage(db, { ...row, status: 'creating' })) return false;
        const document = JSON.stringify(order);
        db.run('INSERT INTO state.imports VALUES (?, ?)', order.imageId, document);
        return true;
      });
    },

    importOrder: find,

    importOrders(): ImportOrder[] {
      return db.all('SELECT document FROM state.imports ORDER BY image_id').map(orderOf);
    },

    changeImport(imageId: string, changes: ImportChanges): ImportOrder | undefined {
      return db.transaction(() => {
        const order = find(imageId);
        if (order === undefined) return undefined;
        const changed = { ...order, ...changes };
        const document = JSON.stringify(changed);
        db.run('UPDATE state.imports SET document = ? WHERE image_id = ?', document, imageId);
        return changed;
      });
    },

    endImport(imageId: string, failure: string): void {
      db.transaction(() => {
        const ended = db.run('DELETE FROM state.imports WHERE image_id = ?', imageId);
        if (ended === 0) return;
        // A commit that broke off has left `failed` without a reason.
        db.run(
          `UPDATE state.images SET status = 'failed', failure = ?
             WHERE id = ? AND status IN ('creating', 'failed')`,
          failure,
          imageId,
        );
      });
    },
  };
}

/** JSON has no undefined: a member that is not there comes back as one that is. */
function orderOf(row: Row): ImportOrder {
  return {
    url: undefined,
    sha256: undefined,
    sizeBytes: undefined,
    format: undefined,
    ...JSON.parse(textOf(row['document'])),
  };
}
