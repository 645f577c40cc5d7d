import { Option } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import { WIRE_CODECS, type WireCodec } from '../../../bytes/index.ts';

/** `-S`, as mender-artifact has it. */
export function sshArgsOption() {
  return new Option('-S, --ssh-args <argument>', 'an argument for ssh; may be given several times')
    .argParser((argument: string, before: readonly string[]): readonly string[] => [
      ...before,
      argument,
    ])
    .default([] as readonly string[]);
}

/** `--wire`. */
export function wireOption() {
  return new Option('--wire <how>', 'compress what goes over the link')
    .choices(['auto', ...WIRE_CODECS])
    .default('auto' as const);
}

/** `--no-precopy`. */
export const PRECOPY_OPTION = [
  '--no-precopy',
  'freeze for the whole transfer, instead of only to learn what changed',
] as const;

/** `--resume`. */
export const RESUME_OPTION = [
  '--resume <file>',
  'keep here what came over until the image is safe, and go on with it after a failure',
] as const;

/** Refuses what would be ignored where no machine is reached over ssh. */
export function refuseRemoteOptions(options: {
  readonly sshArgs?: readonly string[] | undefined;
  readonly wire: WireCodec | 'auto';
  readonly precopy: boolean;
  readonly resume?: string | undefined;
}): void {
  const [given] = [
    ...((options.sshArgs ?? []).length > 0 ? ['-S'] : []),
    ...(options.wire === 'auto' ? [] : ['--wire']),
    ...(options.precopy ? [] : ['--no-precopy']),
    ...(options.resume === undefined ? [] : ['--resume']),
  ];
  if (given !== undefined) throw new IngotError('request-invalid', `${given} is for ssh:// only`);
}
