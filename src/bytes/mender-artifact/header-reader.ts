import { IngotError } from '../../base/index.ts';
import { ByteStream } from '../byte-stream.ts';
import { readTar, type TarEntry } from '../tar/tar-reader.ts';
import { expectArchiveEnd } from './archive-end.ts';
import type { AugmentHeader, PayloadHeader, StateScript } from './artifact.ts';
import { ROOTFS_IMAGE } from './artifact.ts';
import { type JsonValue, parseJson } from './go-json.ts';
import { type HeaderInfo, parseHeaderInfo, parsePayloadType } from './header-info.ts';
import { expectObject, malformedAt, refuseOthers } from './json-shape.ts';
import { isScriptName, refuseEscapes } from './rules.ts';
import { parseFilesV2, parseTypeInfo, type TypeInfo } from './type-info.ts';
import type { FormatVersion } from './version-file.ts';

/** One file of a header is never larger than this: metadata and scripts are kept in memory. */
const MAX_FILE_BYTES = 16 * 1024 * 1024;
/** All of a header together. */
const MAX_HEADER_BYTES = 64 * 1024 * 1024;
const MAX_ENTRIES = 4096;

/** What `header.tar` holds. */
export interface ParsedHeader {
  readonly info: HeaderInfo;
  readonly payload: PayloadHeader;
  readonly scripts: readonly StateScript[];
  readonly notices: readonly string[];
}

/** The files of a header archive, in order, each wholly in memory. */
async function* headerFiles(
  plain: AsyncIterable<Uint8Array>,
  archive: string,
): AsyncGenerator<{ entry: TarEntry; bytes: Buffer }, void, undefined> {
  const stream = new ByteStream(plain);
  try {
    let totalBytes = 0;
    let entries = 0;
    const names = new Set<string>();
    for await (const entry of readTar(stream, { archive, end: 'optional' })) {
      refuseEscapes(entry.name, archive);
      entries += 1;
      if (entries > MAX_ENTRIES) throw malformedAt(archive, `has more than ${MAX_ENTRIES} entries`);
      if (entry.type === 'directory') continue;
      if (entry.type === 'other') {
        throw malformedAt(archive, `${entry.name} is a link or a device, not a file`);
      }
      if (names.has(entry.name)) throw malformedAt(archive, `${entry.name} is there twice`);
      names.add(entry.name);
      totalBytes += entry.sizeBytes;
      if (entry.sizeBytes > MAX_FILE_BYTES || totalBytes > MAX_HEADER_BYTES) {
        throw malformedAt(archive, `${entry.name} has ${entry.sizeBytes} bytes, which is too much`);
      }
      const pieces: Buffer[] = [];
      for await (const piece of entry.body()) pieces.push(Buffer.from(piece));
      yield { entry, bytes: Buffer.concat(pieces) };
    }
    await expectArchiveEnd(stream, archive);
  } finally {
    await stream.close();
  }
}

function parseMetaData(bytes: Buffer, place: string): ReadonlyMap<string, JsonValue> | undefined {
  if (bytes.length === 0) return undefined;
  const object = expectObject(parseJson(bytes, place), place);
  return object.size === 0 ? undefined : object;
}

/** Compares the two places that name the type; what known tools got wrong becomes a notice. */
function checkType(typeInfo: TypeInfo, payloadType: string | null, notices: string[]): TypeInfo {
  if (typeInfo.type === payloadType) return typeInfo;
  const isKnownDefect = typeInfo.type === null || typeInfo.type === '';
  if (payloadType === ROOTFS_IMAGE && isKnownDefect) {
    notices.push(
      'type-info has no type: mender-artifact 3.3.0 to 4.3.0 wrote it so, and 4.4.0 refuses it',
    );
    return { ...typeInfo, type: ROOTFS_IMAGE };
  }
  throw malformedAt(
    'headers/0000/type-info',
    `the type is ${JSON.stringify(typeInfo.type)}, header-info says ${JSON.stringify(payloadType)}`,
  );
}

/** Gathers the files of one header in the order that they must have. */
class HeaderFiles {
  readonly scripts: StateScript[] = [];
  typeInfo: TypeInfo | undefined;
  metaData: ReadonlyMap<string, JsonValue> | undefined;
  hasMetaData = false;
  filesV2: readonly string[] | undefined;
  readonly #archive: string;
  readonly #version: FormatVersion;

  constructor(archive: string, version: FormatVersion) {
    this.#archive = archive;
    this.#version = version;
  }

  #script(name: string, entry: TarEntry, bytes: Buffer): void {
    if (this.typeInfo !== undefined || this.filesV2 !== undefined) {
      throw malformedAt(this.#archive, `${entry.name} stands after the payload's headers`);
    }
    if (!isScriptName(name)) {
      throw malformedAt(
        this.#archive,
        `${JSON.stringify(entry.name)} is no name of a state script`,
      );
    }
    this.scripts.push({ name, mode: entry.mode, content: bytes });
  }

  take(entry: TarEntry, bytes: Buffer): void {
    const place = `${this.#archive} ${entry.name}`;
    const script = /^scripts\/([^/]+)$/.exec(entry.name)?.[1];
    if (script !== undefined) {
      this.#script(script, entry, bytes);
    } else if (entry.name === 'headers/0000/files' && this.#version === 2) {
      if (this.typeInfo !== undefined) throw malformedAt(place, 'stands after type-info');
      this.filesV2 = parseFilesV2(bytes, place);
    } else if (entry.name === 'headers/0000/type-info') {
      if (this.hasMetaData) throw malformedAt(place, 'stands after meta-data');
      this.typeInfo = parseTypeInfo(bytes, place);
    } else if (entry.name === 'headers/0000/meta-data') {
      if (this.typeInfo === undefined) throw malformedAt(place, 'stands before type-info');
      this.hasMetaData = true;
      this.metaData = parseMetaData(bytes, place);
    } else {
      throw malformedAt(this.#archive, `has the unknown entry ${JSON.stringify(entry.name)}`);
    }
  }
}

/**
 * Reads `header.tar`, decompressed.
 *
 * @param archive its name in the artifact, for messages
 * @throws IngotError `artifact-malformed`, `artifact-unsupported`, `path-refused`
 */
export async function readHeader(
  plain: AsyncIterable<Uint8Array>,
  { archive, version }: { readonly archive: string; readonly version: FormatVersion },
): Promise<ParsedHeader> {
  let info: HeaderInfo | undefined;
  const files = new HeaderFiles(archive, version);
  for await (const { entry, bytes } of headerFiles(plain, archive)) {
    if (info !== undefined) {
      files.take(entry, bytes);
    } else if (entry.name === 'header-info') {
      info = parseHeaderInfo(bytes, version);
    } else {
      throw malformedAt(archive, `begins with ${entry.name}, not with header-info`);
    }
  }
  if (info === undefined) throw malformedAt(archive, 'is empty');
  const notices: string[] = [];
  let typeInfo = files.typeInfo;
  if (typeInfo === undefined) throw malformedAt(archive, 'has no headers/0000/type-info');
  if (version === 2) {
    if (info.payloadType !== ROOTFS_IMAGE) {
      throw new IngotError(
        'artifact-unsupported',
        `version 2 holds only rootfs-image payloads, not ${JSON.stringify(info.payloadType)}`,
      );
    }
    typeInfo = { ...typeInfo, type: ROOTFS_IMAGE };
  } else {
    typeInfo = checkType(typeInfo, info.payloadType, notices);
  }
  if (info.payloadType === null && files.hasMetaData) {
    throw malformedAt(archive, 'a bootstrap artifact must have no meta-data');
  }
  const payload = { typeInfo, metaData: files.metaData };
  return { info, payload, scripts: files.scripts, notices };
}

/**
 * Reads `header-augment.tar`, decompressed.
 *
 * @throws IngotError `artifact-malformed`, `path-refused`
 */
export async function readAugmentHeader(
  plain: AsyncIterable<Uint8Array>,
  archive: string,
): Promise<AugmentHeader> {
  let payloadType: string | null | undefined;
  const files = new HeaderFiles(archive, 3);
  for await (const { entry, bytes } of headerFiles(plain, archive)) {
    if (payloadType !== undefined) {
      files.take(entry, bytes);
    } else if (entry.name === 'header-info') {
      const place = `${archive} header-info`;
      const object = expectObject(parseJson(bytes, place), place);
      refuseOthers(object, ['payloads', 'artifact_provides', 'artifact_depends'], place);
      payloadType = parsePayloadType(object.get('payloads'), `${place} payloads`);
    } else {
      throw malformedAt(archive, `begins with ${entry.name}, not with header-info`);
    }
  }
  if (payloadType === undefined) throw malformedAt(archive, 'is empty');
  if (files.scripts.length > 0) throw malformedAt(archive, 'has state scripts');
  if (files.typeInfo === undefined) throw malformedAt(archive, 'has no headers/0000/type-info');
  return { payloadType, typeInfo: files.typeInfo, metaData: files.metaData };
}
