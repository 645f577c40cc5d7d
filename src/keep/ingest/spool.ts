/**
 * Room for what does not fit into memory, on a filesystem that no capture freezes.
 *
 * Disposal removes it; a crash leaves nothing behind.
 */
export interface Spool extends AsyncDisposable {
  /**
   * Adds bytes at the end.
   *
   * @throws IngotError `target-full`
   */
  append(bytes: Uint8Array): Promise<void>;
  /**
   * Reads what was appended.
   *
   * @returns exactly these bytes
   */
  read(offsetBytes: number, lengthBytes: number): Promise<Buffer>;
}

/** Opens an empty spool; called only when memory does not suffice. */
export type OpenSpool = () => Promise<Spool>;
