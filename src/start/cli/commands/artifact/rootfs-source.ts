import type { WireCodec } from '../../../../bytes/index.ts';
import type { SnapshotSource } from '../../../../capture/index.ts';
import type { ArtifactPayload } from '../../../../publish/index.ts';
import type { RemotePayload } from '../../../client/coded-image.ts';
import type { CliContext } from '../../context.ts';

/** What opening a payload may need. */
export interface RootfsPayloadSetup {
  readonly context: CliContext;
  readonly profile?: string | undefined;
  readonly sshArgs?: readonly string[] | undefined;
  /** A folder of the filesystem, or a block device, of a device over ssh. */
  readonly source: string;
  /** How bytes of a device over ssh are coded on the way. */
  readonly wire: WireCodec | 'auto';
  /** False: a device over ssh is frozen for the whole transfer. */
  readonly precopy: boolean;
  /** A file that keeps what came over from a device until the artifact is safe. */
  readonly resume?: string | undefined;
  /** In ms; undefined: no limit, but on standing still. */
  readonly maxFreeze?: number | undefined;
  /** False: what is mounted is read as it changes. */
  readonly freeze: boolean;
  /** Where the artifact goes. */
  readonly outputPath: string;
  /** Where a payload is put that must be read twice. */
  readonly tmp?: string | undefined;
}

/** A root filesystem: to be coded, or as segments that are there already too. */
export interface RootfsPayload extends AsyncDisposable {
  readonly plain: ArtifactPayload;
  readonly coded: RemotePayload | undefined;
  /** Whether it cannot be read to find its digest, and again to be written. */
  readonly isReadOnce: boolean;
  /** What the device says that is installed; an artifact of it provides that too. */
  readonly provides?: ReadonlyMap<string, string> | undefined;
  /** What is frozen while it is read; undefined where nothing of this machine is. */
  readonly live?: SnapshotSource | undefined;
  /** Hears that the artifact is safe, so that nobody will go on with what came over. */
  delivered?(): Promise<void>;
}
