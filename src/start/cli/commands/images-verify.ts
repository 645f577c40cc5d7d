import type { Command } from '@commander-js/extra-typings';
import { runJob } from '../../client/follow-job.ts';
import type { CliContext } from '../context.ts';
import { imageIdOf, openClient } from '../support/daemon-access.ts';
import { verifyWords } from '../support/job-end.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const EXAMPLES = `
Examples:
  ingot images verify img-y22uq
  ingot images verify img-y22uq --json

The status is 36 when there is damage.
`;

/** `ingot images verify`. */
export function registerImagesVerify(images: Command, context: CliContext): void {
  images
    .command('verify')
    .description('read images back and compare them with their digests')
    .argument('<image...>', 'their ids')
    .option('--quiet', 'no progress')
    .option('--json', 'the reports as JSON, one a line')
    .option(...PROFILE_OPTION)
    .addHelpText('after', EXAMPLES)
    .action(async (ids, options) => {
      using client = openClient(context, options);
      for (const id of ids.map(imageIdOf)) {
        using progress = context.progress(`verify ${id}`);
        const call = { method: 'POST', path: `/images/${id}/verify` } as const;
        const job = await runJob(client, call, progress);
        progress[Symbol.dispose]();
        if (options.json === true) {
          context.stdout.write(`${JSON.stringify({ image: id, report: job.report })}\n`);
        }
        const words = verifyWords(job);
        if (options.json !== true) context.stdout.write(`${id}: ${words}\n`);
      }
    });
}
