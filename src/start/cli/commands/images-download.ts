import { type Command, Option } from '@commander-js/extra-typings';
import { formatBytes, formatDuration, IngotError } from '../../../base/index.ts';
import {
  DOWNLOAD_FORMS,
  type DownloadReport,
  type DownloadRequest,
  downloadToFile,
  downloadToStream,
} from '../../client/download-image.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images download img-y22uq                       into img-y22uq.gz
  ingot images download img-y22uq --format raw -o disk  a sparse raw disk
  ingot images download img-y22uq -o - | gunzip | ssh host 'dd of=/dev/sdb bs=4M'
  ingot images download -c img-y22uq                    go on where it broke off

A download has its name only once it is whole and checked; what came of one that broke off is kept
as NAME.part.
`;

/** `ingot images download`. */
export function registerImagesDownload(images: Command, context: CliContext): void {
  images
    .command('download')
    .description('download an image to a file or to stdout')
    .argument('<image>', 'its id')
    .option('-o, --output <file>', 'where to (default: ID.FORMAT); - is stdout')
    .addOption(
      new Option('--format <form>', 'what the file is')
        .choices(DOWNLOAD_FORMS)
        .default('gz' as const),
    )
    .option('-c, --continue', 'go on with the part that an earlier download left')
    .option('--no-check', 'do not check CRC and digest of what came')
    .option('--quiet', 'no progress and no closing line')
    .option('--json', 'the report as JSON on stderr')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (id, options) => {
      using client = openClient(context, options);
      const imageId = imageIdOf(id);
      const path = options.output ?? `${imageId}.${options.format}`;
      refuseTerminal(context, path);
      const startedAt = performance.now();
      const report = await withProgress(context, `download ${imageId}`, (onProgress) => {
        const request: DownloadRequest = {
          client,
          imageId,
          form: options.format,
          isResumed: options.continue === true,
          isChecked: options.check,
          onProgress,
        };
        return path === '-'
          ? downloadToStream(request, context.stdout)
          : downloadToFile(request, path);
      });
      const elapsedMs = Math.round(performance.now() - startedAt);
      if (options.json === true) {
        context.stderr.write(
          `${JSON.stringify({ image: imageId, file: path, ...report, elapsedMs })}\n`,
        );
      } else if (options.quiet !== true && path !== '-') {
        context.stderr.write(
          `${wordsOf(report, path, options.check)} in ${formatDuration(elapsedMs)}\n`,
        );
      }
    });
}

async function withProgress<T>(
  context: CliContext,
  label: string,
  work: (onProgress: DownloadRequest['onProgress']) => Promise<T>,
): Promise<T> {
  using progress = context.progress(label);
  return await work(progress.onProgress);
}

function wordsOf(report: DownloadReport, path: string, isChecked: boolean): string {
  const resumed =
    report.resumedBytes > 0 ? `, ${formatBytes(report.resumedBytes)} of it from before` : '';
  return `${path}: ${formatBytes(report.sizeBytes)}${resumed}, ${isChecked ? 'checked' : 'not checked'},`;
}

function refuseTerminal({ stdout }: CliContext, path: string): void {
  if (path !== '-' || !('isTTY' in stdout) || stdout.isTTY !== true) return;
  throw new IngotError('target-is-terminal', 'stdout is a terminal; use -o FILE or a pipe');
}
