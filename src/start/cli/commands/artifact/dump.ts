import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../../base/index.ts';
import {
  type Artifact,
  type ArtifactHeader,
  encodeGoJson,
  type JsonValue,
  type PayloadFileStart,
  sortedDeep,
} from '../../../../bytes/index.ts';
import type { CliContext } from '../../context.ts';
import { readArtifactFile } from './open-artifact.ts';
import { openNewFile } from './output-file.ts';

const EXAMPLES = `
Examples:
  ingot artifact dump --files out --scripts out release-1.mender
  ingot artifact dump --print-cmdline --files out --meta-data out config-7.mender
`;

interface DumpOptions {
  readonly files?: string | undefined;
  readonly metaData?: string | undefined;
  readonly scripts?: string | undefined;
}

/** Gathers what is dumped: files get their names only when the whole artifact was right. */
class Dump implements AsyncDisposable {
  readonly args: string[] = [];
  readonly #options: DumpOptions;
  readonly #undo = new AsyncDisposableStack();
  readonly #commits: (() => Promise<void>)[] = [];

  constructor(options: DumpOptions) {
    this.#options = options;
  }

  async #put(
    path: string,
    pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
    mode: number,
  ): Promise<void> {
    const output = this.#undo.use(await openNewFile(path, mode));
    for await (const piece of pieces) await output.write(piece);
    this.#commits.push(() => output.commit());
  }

  async #metaData(
    folder: string,
    {
      value,
      suffix,
      option,
    }: {
      readonly value: ReadonlyMap<string, JsonValue> | undefined;
      readonly suffix: string;
      readonly option: string;
    },
  ): Promise<void> {
    if (value === undefined) return;
    const path = join(folder, `0000.meta-data${suffix}`);
    await this.#put(path, [Buffer.from(`${encodeGoJson(sortedDeep(value))}\n`)], 0o644);
    this.args.push(option, path);
  }

  async header(header: ArtifactHeader): Promise<void> {
    const { scripts, metaData } = this.#options;
    if (scripts !== undefined) {
      await mkdir(scripts, { recursive: true });
      for (const { name, content } of header.scripts) {
        const path = join(scripts, name);
        await this.#put(path, [content], 0o755);
        this.args.push('--script', path);
      }
    }
    if (metaData !== undefined) {
      await mkdir(metaData, { recursive: true });
      const own = { value: header.payload.metaData, suffix: '', option: '--meta-data' };
      await this.#metaData(metaData, own);
      const value = header.augment?.metaData;
      await this.#metaData(metaData, { value, suffix: '-augment', option: '--augment-meta-data' });
    }
  }

  async payloadFile(file: PayloadFileStart, body: AsyncIterable<Uint8Array>): Promise<void> {
    const { files } = this.#options;
    if (files === undefined) return;
    await mkdir(files, { recursive: true });
    const path = join(files, file.name);
    await this.#put(path, body, 0o644);
    this.args.push(file.isAugmented ? '--augment-file' : '--file', path);
  }

  async commit(): Promise<void> {
    for (const commit of this.#commits) await commit();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#undo.disposeAsync();
  }
}

/** The arguments that write the same artifact again. */
function commandLine(artifact: Artifact, dumped: readonly string[]): string[] {
  const { info, payload, augment } = artifact;
  const { typeInfo } = payload;
  const repeat = (option: string, values: Iterable<string>): string[] =>
    [...values].flatMap((value) => [option, value]);
  const pairs = (map: ReadonlyMap<string, unknown>): string[] =>
    [...map].map(([key, value]) => `${key}:${String(value)}`);
  if (info.payloadType === null) {
    throw new IngotError(
      'artifact-unsupported',
      'a bootstrap artifact has no payload to write again',
    );
  }
  return [
    // A module image can be of any type, rootfs-image too.
    ...['write', 'module-image', '--artifact-name', info.name],
    ...(info.group === undefined || info.group === '' ? [] : ['--provides-group', info.group]),
    ...repeat('--artifact-name-depends', info.dependsNames),
    ...repeat('--compatible-types', info.deviceTypes),
    ...repeat('--depends-groups', info.dependsGroups),
    ...['--type', info.payloadType, '--no-default-software-version'],
    ...repeat('--provides', pairs(typeInfo.provides)),
    ...repeat('--depends', pairs(typeInfo.depends)),
    '--no-default-clears-provides',
    ...repeat('--clears-provides', typeInfo.clearsProvides),
    ...(augment === undefined ? [] : ['--augment-type', augment.payloadType ?? '']),
    ...repeat('--augment-provides', pairs(augment?.typeInfo.provides ?? new Map())),
    ...repeat('--augment-depends', pairs(augment?.typeInfo.depends ?? new Map())),
    ...dumped,
  ];
}

/** `ingot artifact dump`. */
export function registerDump(artifact: Command, context: CliContext): void {
  artifact
    .command('dump')
    .description('take an artifact apart into files')
    .argument('<file>', 'the artifact')
    .option('--files <folder>', 'write the payload files there')
    .option('--meta-data <folder>', 'write the metadata there')
    .option('--scripts <folder>', 'write the state scripts there')
    .option('--print-cmdline', 'print the arguments that write the artifact again')
    .option('--print0-cmdline', 'the same, each argument ended by a NUL')
    .option('--no-progress', 'no progress on stderr')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options, command) => {
      if (options.printCmdline === true && options.print0Cmdline === true) {
        command.error('error: --print-cmdline and --print0-cmdline exclude each other');
      }
      await using dump = new Dump(options);
      const found = await readArtifactFile(
        file,
        {
          progress: options.progress,
          onHeader: (header) => dump.header(header),
          onPayloadFile: (payload, body) => dump.payloadFile(payload, body),
        },
        context,
      );
      await dump.commit();
      if (options.printCmdline === true) {
        context.stdout.write(`${commandLine(found, dump.args).join(' ')}\n`);
      } else if (options.print0Cmdline === true) {
        const args = commandLine(found, dump.args).map((arg) => `${arg}\0`);
        context.stdout.write(args.join(''));
      }
    });
}
