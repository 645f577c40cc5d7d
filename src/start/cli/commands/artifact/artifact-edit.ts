import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, IngotError } from '../../../../base/index.ts';
import type { Artifact, ArtifactHeader, Compression } from '../../../../bytes/index.ts';
import {
  type ArtifactPayload,
  type ArtifactSigner,
  rewriteHeader,
  writeArtifact,
} from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { type CompressionName, dataCoding } from './compression-option.ts';
import { copyRange, writeSparse } from './copy-files.ts';
import { readArtifactFile } from './open-artifact.ts';
import { openOutput } from './output-file.ts';
import { readFilePieces } from './payload-file.ts';
import { progressOf } from './run-write.ts';

/** Provides that hold the digest of a root filesystem, the second one for old clients. */
const CHECKSUM_KEYS = ['rootfs-image.checksum', 'rootfs_image_checksum'];

const NAMES: Readonly<Record<Compression, CompressionName>> = {
  none: 'none',
  gzip: 'gzip',
  xz: 'lzma',
  zstd: 'zstd_fast',
};

/** How an artifact is opened for changes. */
export interface ArtifactEditSetup {
  readonly context: CliContext;
  /** Whether the payload files are unpacked into a temporary folder. */
  readonly unpacks: boolean;
  /** Folder for them; the system's if it is not given. */
  readonly tmp?: string | undefined;
  readonly progress: boolean;
}

/** How a changed artifact is saved. */
export interface SaveOptions {
  readonly header: ArtifactHeader;
  readonly signer: ArtifactSigner | undefined;
  /** The artifact's own if it is not given. */
  readonly compression?: CompressionName | undefined;
}

/** An artifact that is being changed: read and checked whole, and replaced when it is saved. */
export class ArtifactEdit implements AsyncDisposable {
  readonly artifact: Artifact;
  readonly #path: string;
  readonly #folder: string | undefined;
  readonly #setup: ArtifactEditSetup;

  private constructor(
    path: string,
    artifact: Artifact,
    folder: string | undefined,
    setup: ArtifactEditSetup,
  ) {
    this.#path = path;
    this.artifact = artifact;
    this.#folder = folder;
    this.#setup = setup;
  }

  /**
   * @throws IngotError of the reader; `target-full` when the payload has no room in the temporary
   *   folder
   */
  static async open(path: string, setup: ArtifactEditSetup): Promise<ArtifactEdit> {
    const { context, unpacks, tmp, progress } = setup;
    await using undo = new AsyncDisposableStack();
    let folder: string | undefined;
    if (unpacks) {
      const made = await mkdtemp(join(tmp ?? tmpdir(), 'ingot-artifact-'));
      undo.defer(() => rm(made, { recursive: true, force: true }));
      folder = made;
      await mkdir(join(made, 'files'));
    }
    const artifact = await readArtifactFile(
      path,
      {
        progress,
        onPayloadFile: async (file, body) => {
          if (folder === undefined) return;
          await writeSparse(join(folder, 'files', file.name), body, context.signal);
        },
      },
      context,
    );
    undo.move();
    return new ArtifactEdit(path, artifact, folder, setup);
  }

  /**
   * Gives the unpacked root filesystem, to be changed in place.
   *
   * @throws IngotError `artifact-unsupported` when the artifact has none, or is augmented
   */
  rootfsFile(): string {
    const [file, ...others] = this.artifact.files;
    if (this.#folder === undefined) throw new RangeError('the payload was not unpacked');
    const isRootfs = this.artifact.info.payloadType === 'rootfs-image';
    if (
      file === undefined ||
      others.length > 0 ||
      !isRootfs ||
      this.artifact.augment !== undefined
    ) {
      throw new IngotError(
        'artifact-unsupported',
        `${this.#path} has no single root filesystem whose files could be changed`,
      );
    }
    return join(this.#folder, 'files', file.name);
  }

  #payloads(folder: string): ArtifactPayload[] {
    return this.artifact.files.map(({ name, mode, sizeBytes, isAugmented }) => ({
      name,
      mode,
      sizeBytes,
      isAugmented,
      open: ({ keptBytes }) => readFilePieces(join(folder, 'files', name), { keptBytes }),
    }));
  }

  #warnOfLostSignature(signer: ArtifactSigner | undefined): void {
    if (this.artifact.signature === 'absent' || signer !== undefined) return;
    this.#setup.context.stderr.write(
      'warning: the signature fits no longer and was removed; sign it anew (ingot artifact sign)\n',
    );
  }

  /** Saves the artifact; its payload is coded anew where it was unpacked, else kept as it is. */
  async save({ header, signer, compression }: SaveOptions): Promise<void> {
    const { context, progress } = this.#setup;
    const coding = await dataCoding(compression ?? NAMES[this.artifact.compression]);
    await using output = await openOutput(this.#path, context);
    if (this.#folder === undefined) {
      const plan = await rewriteHeader(this.artifact, header, { coding, signer });
      await output.write(plan.head);
      const copy = { output, signal: context.signal };
      await copyRange(this.#path, { from: plan.dataFromByte, to: plan.dataToByte }, copy);
      await output.write(plan.tail);
    } else {
      using display = progressOf(context, progress, 'artifact');
      await writeArtifact(
        {
          ...coding,
          signer,
          payloads: this.#payloads(this.#folder),
          header: (digests) => withChecksum(header, digests),
          onProgress: display.onProgress,
          signal: context.signal,
        },
        output,
      );
    }
    await output.commit();
    this.#warnOfLostSignature(signer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }
}

/** Puts the digest of a root filesystem where the header had one. */
function withChecksum(header: ArtifactHeader, [digest]: readonly Digest[]): ArtifactHeader {
  const { typeInfo } = header.payload;
  if (header.info.payloadType !== 'rootfs-image' || digest === undefined) return header;
  const provides = new Map(typeInfo.provides);
  for (const key of CHECKSUM_KEYS) if (provides.has(key)) provides.set(key, digest);
  return { ...header, payload: { ...header.payload, typeInfo: { ...typeInfo, provides } } };
}
