import { mkdir, mkdtemp, open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { IngotError, MIB, type OnProgress } from '../../base/index.ts';
import {
  checkDiskHeader,
  checkImageInfo,
  DISK_HEADER_BYTES,
  type DiskFormat,
} from '../../bytes/index.ts';
import type { SpooledFile } from './spooled-snapshot.ts';
import {
  runInSandbox,
  SANDBOX_INPUT,
  SMALL_TOOL_LIMITS,
  type ToolEnd,
  type ToolRun,
} from './tool-sandbox.ts';

/** An image in a form of qemu-img's, and what may come of it. */
export interface ConversionRequest {
  readonly path: string;
  /** How people know it. */
  readonly name: string;
  readonly format: Exclude<DiskFormat, 'raw'>;
  /** Where the raw disk is put. */
  readonly folder: string;
  readonly maxDiskBytes: number;
  /** Bytes that must stay free in the folder. */
  readonly keepFreeBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: OnProgress;
}

/** A raw disk, and whether qemu-img was locked in while it made it. */
export interface ConvertedDisk extends SpooledFile {
  readonly isIsolated: boolean;
}

/** Slower than that, a conversion is no work but an attack. */
const SLOWEST_BYTES_PER_SECOND = 20 * MIB;
const LEAST_SECONDS = 300;
const PACKAGE = 'qemu-utils';
/** No errors; unused clusters only; a form that has no check. */
const CHECK_IS_FINE = [0, 3, 63];
const CHECK_LIMITS = { ...SMALL_TOOL_LIMITS, cpuSeconds: 600, timeoutMs: 1_800_000 };

/**
 * Makes a raw, sparse disk of an image in another form, by qemu-img in a sandbox.
 *
 * The image may be hostile. Its header is looked at here first, then described by qemu-img, and only
 * one that consists of this one file and is of a sensible size is converted; the form is always said,
 * never guessed.
 *
 * @throws IngotError `source-unsupported` when it refers to other files, is encrypted or broken,
 *   `request-too-large`, `target-full`, `tool-missing`
 * @see docs/imports.md
 */
export async function convertDisk(request: ConversionRequest): Promise<ConvertedDisk> {
  const { path, name, format, maxDiskBytes } = request;
  const { header, fileBytes } = await startOf(path);
  checkDiskHeader(format, header, { name, fileBytes, maxDiskBytes });
  await using undo = new AsyncDisposableStack();
  const folder = await mkdtemp(join(request.folder, 'ingot-convert-'));
  undo.defer(() => rm(folder, { recursive: true, force: true }));
  const output = join(folder, 'output');
  await mkdir(output);
  const common = {
    tool: 'qemu-img',
    packageName: PACKAGE,
    inputPath: path,
    outputFolder: output,
    signal: request.signal,
  };
  const info = await mustEndWell(request, {
    ...common,
    argv: ({ input }) => ['info', '--output=json', '-f', format, input],
    limits: SMALL_TOOL_LIMITS,
  });
  const inputPath = info.isIsolated ? SANDBOX_INPUT : path;
  const sizeBytes = checkImageInfo(info.stdout, { name, format, inputPath, maxDiskBytes });
  // Where its tables point behind its end, a conversion would read zeros.
  await mustEndWell(
    request,
    { ...common, argv: ({ input }) => ['check', '-q', '-f', format, input], limits: CHECK_LIMITS },
    CHECK_IS_FINE,
  );
  const seconds = LEAST_SECONDS + Math.ceil(sizeBytes / SLOWEST_BYTES_PER_SECOND);
  const end = await mustEndWell(request, {
    ...common,
    argv: (paths) => [
      ...['convert', '-p', '-f', format, '-O', 'raw', '-S', '64k'],
      ...[paths.input, `${paths.output}/disk.raw`],
    ],
    limits: {
      ...SMALL_TOOL_LIMITS,
      cpuSeconds: seconds,
      fileBytes: sizeBytes,
      timeoutMs: 4 * seconds * 1000,
    },
    watch: () => checkRoom(request),
    onStdout: (text) => tellProgress(request, sizeBytes, text),
  });
  const owned = undo.move();
  return {
    path: join(output, 'disk.raw'),
    isIsolated: end.isIsolated,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function mustEndWell(
  { name, format }: ConversionRequest,
  run: ToolRun,
  fine: readonly number[] = [0],
): Promise<ToolEnd> {
  const end = await runInSandbox(run);
  if (fine.includes(end.status)) return end;
  // Its last line says why; paths of the sandbox mean nothing to anybody.
  const words = end.stderr.trim().split('\n').at(-1) ?? '';
  const reason = words.replaceAll(run.inputPath, name).replaceAll(SANDBOX_INPUT, name);
  throw new IngotError(
    'source-unsupported',
    `qemu-img cannot read ${name} as ${format}: ${reason.slice(0, 300) || 'it was ended'}`,
    { format, status: end.status },
  );
}

async function startOf(
  path: string,
): Promise<{ readonly header: Buffer; readonly fileBytes: number }> {
  await using file = await open(path, 'r');
  const { bytesRead, buffer } = await file.read(
    Buffer.alloc(DISK_HEADER_BYTES),
    0,
    DISK_HEADER_BYTES,
    0,
  );
  return { header: buffer.subarray(0, bytesRead), fileBytes: (await file.stat()).size };
}

async function checkRoom({ folder, keepFreeBytes }: ConversionRequest): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  if (bavail * bsize >= keepFreeBytes) return;
  throw new IngotError('target-full', `the spool in ${folder} has ${bavail * bsize} bytes left`, {
    freeBytes: bavail * bsize,
    keepFreeBytes,
  });
}

function tellProgress({ onProgress }: ConversionRequest, sizeBytes: number, text: string): void {
  const share = /\((\d+(?:\.\d+)?)\/100%\)[^(]*$/.exec(text)?.[1];
  if (share === undefined) return;
  const doneBytes = Math.floor((sizeBytes * Number(share)) / 100);
  onProgress({ doneBytes, totalBytes: sizeBytes, stage: 'converting' });
}
