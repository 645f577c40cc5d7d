import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../../base/index.ts';
import {
  type ArtifactHeader,
  encodeGoJson,
  type JsonValue,
  nameFaults,
  parseJson,
  sortedDeep,
} from '../../../../bytes/index.ts';
import type { FilesystemEditor } from '../../../../publish/index.ts';
import type { CliContext } from '../../context.ts';
import { ArtifactEdit } from './artifact-edit.ts';
import { chosenOrOwnCompression, compressionOption } from './compression-option.ts';
import { openWorkingCopy } from './copy-files.ts';
import { inTemporaryFolder, isArtifactFile } from './edit-files.ts';
import { openSigner, withKeyOptions } from './key-options.ts';
import { openFilesystems } from './open-filesystem.ts';
import { collect, collectPairs, readMetaData, readScripts } from './write-options.ts';

const EXAMPLES = `
Examples:
  ingot artifact modify -n release-2 release-1.mender
  ingot artifact modify -u https://mender.example.org -c server.crt card.sdimg
  ingot artifact modify -p rootfs-image.version:2 -k private.pem release-1.mender
`;

const MENDER = '/etc/mender';
const NEW_FILE = { mode: 0o644, userId: 0, groupId: 0 };

/** What is changed inside the filesystem. */
interface FileChanges {
  readonly serverUri?: string | undefined;
  readonly serverCert?: string | undefined;
  readonly verificationKey?: string | undefined;
  readonly tenantToken?: string | undefined;
  readonly artifactName?: string | undefined;
}

/** What is changed in an artifact's header. */
interface HeaderChanges {
  readonly artifactName?: string | undefined;
  readonly artifactNameDepends?: readonly string[] | undefined;
  readonly providesGroup?: string | undefined;
  readonly dependsGroups?: readonly string[] | undefined;
  readonly script?: readonly string[] | undefined;
  readonly provides?: ReadonlyMap<string, string> | undefined;
  readonly depends?: ReadonlyMap<string, string> | undefined;
  readonly metaData?: string | undefined;
  readonly clearsProvides?: readonly string[] | undefined;
  readonly deleteClearsProvides?: readonly string[] | undefined;
}

const HEADER_OPTIONS = [
  'artifactNameDepends',
  'providesGroup',
  'dependsGroups',
  'script',
  'provides',
  'depends',
  'metaData',
  'clearsProvides',
  'deleteClearsProvides',
] as const;

/** Puts a file in place of another, which keeps its mode and owner. */
async function replace(editor: FilesystemEditor, hostFile: string, path: string): Promise<void> {
  const before = await editor.find(path);
  await editor.copyIn(hostFile, path, before?.kind === 'file' ? before : NEW_FILE);
}

async function setConfigValues(
  editor: FilesystemEditor,
  values: ReadonlyMap<string, string>,
  folder: string,
): Promise<void> {
  const copy = join(folder, 'mender.conf');
  const path = `${MENDER}/mender.conf`;
  await editor.copyOut(path, copy);
  const config = parseJson(await readFile(copy), path);
  if (!(config instanceof Map))
    throw new IngotError('request-invalid', `${path} is no JSON object`);
  const changed = new Map<string, JsonValue>([...config, ...values]);
  await writeFile(copy, encodeGoJson(sortedDeep(changed)));
  await replace(editor, copy, path);
}

/** Makes the changes in one filesystem. */
async function changeFiles(
  editor: FilesystemEditor,
  changes: FileChanges,
  folder: string,
): Promise<void> {
  const { serverUri, serverCert, verificationKey, tenantToken, artifactName } = changes;
  const values = new Map<string, string>();
  if (serverUri !== undefined) values.set('ServerURL', serverUri);
  if (tenantToken !== undefined) values.set('TenantToken', tenantToken);
  if (values.size > 0) await setConfigValues(editor, values, folder);
  if (serverCert !== undefined) await replace(editor, serverCert, `${MENDER}/server.crt`);
  if (verificationKey !== undefined) {
    await replace(editor, verificationKey, `${MENDER}/artifact-verify-key.pem`);
  }
  if (artifactName !== undefined) {
    const info = join(folder, 'artifact_info');
    await writeFile(info, `artifact_name=${artifactName}`);
    await replace(editor, info, `${MENDER}/artifact_info`);
  }
}

async function changeAllRoots(
  file: string,
  changes: FileChanges,
  { tmp, signal }: { readonly tmp: string | undefined; readonly signal: AbortSignal },
): Promise<void> {
  const { editors } = await openFilesystems(file, MENDER, signal);
  await inTemporaryFolder(tmp, async (folder) => {
    for (const editor of editors) {
      await editor.prepare();
      await changeFiles(editor, changes, folder);
    }
  });
}

/** Makes the new header. */
async function changedHeader(old: ArtifactHeader, changes: HeaderChanges): Promise<ArtifactHeader> {
  const { typeInfo } = old.payload;
  const removed = changes.deleteClearsProvides ?? [];
  const info = {
    ...old.info,
    name: changes.artifactName ?? old.info.name,
    group: changes.providesGroup ?? old.info.group,
    dependsNames: changes.artifactNameDepends ?? old.info.dependsNames,
    dependsGroups: changes.dependsGroups ?? old.info.dependsGroups,
  };
  for (const fault of nameFaults(info)) throw new IngotError('request-invalid', fault);
  const added = await readScripts(changes.script);
  const names = new Set(added.map((script) => script.name));
  return {
    ...old,
    info,
    scripts: [...old.scripts.filter((script) => !names.has(script.name)), ...added],
    payload: {
      typeInfo: {
        ...typeInfo,
        provides: changes.provides ?? typeInfo.provides,
        depends: changes.depends ?? typeInfo.depends,
        clearsProvides: [...typeInfo.clearsProvides, ...(changes.clearsProvides ?? [])].filter(
          (pattern) => !removed.includes(pattern),
        ),
      },
      metaData: (await readMetaData(changes.metaData)) ?? old.payload.metaData,
    },
  };
}

async function expectFiles(paths: readonly (string | undefined)[]): Promise<void> {
  for (const path of paths) {
    if (path === undefined) continue;
    await stat(path).catch((cause: unknown) => {
      throw new IngotError('file-not-found', `no file ${path}`, { path }, { cause });
    });
  }
}

/** Whether the artifact's filesystem must be opened; its name alone goes into what can be changed. */
function needsFiles(changes: FileChanges): boolean {
  const { serverUri, serverCert, verificationKey, tenantToken } = changes;
  return [serverUri, serverCert, verificationKey, tenantToken].some((value) => value !== undefined);
}

/** `ingot artifact modify`. */
export function registerModify(artifact: Command, context: CliContext): void {
  const bare = artifact
    .command('modify')
    .description('change an artifact, or the files of an image or of a disk with two roots')
    .argument('<file>', 'artifact, ext4 image, or disk with boot, two roots and data')
    .option('-u, --server-uri <url>', 'server in mender.conf')
    .option('-c, --server-cert <file>', 'certificate of the server, to /etc/mender/server.crt')
    .option('-v, --verification-key <file>', 'key that the client checks artifacts with')
    .option('-t, --tenant-token <token>', 'tenant token in mender.conf')
    .option('-n, --artifact-name <name>', 'name of the artifact, also inside its filesystem')
    .option('--name <name>', 'the same as --artifact-name')
    .option(
      '-N, --artifact-name-depends <name>',
      'artifact that must be installed; repeatable',
      collect,
    )
    .option('-g, --provides-group <group>', 'group that it puts the device in')
    .option('-G, --depends-groups <group>', 'group that the device must be in; repeatable', collect)
    .option('-s, --script <path>', 'state script to add; repeatable', collect)
    .option('-p, --provides <key:value>', 'all provides anew; repeatable', collectPairs)
    .option('-d, --depends <key:value>', 'all depends anew; repeatable', collectPairs)
    .option('-m, --meta-data <file>', 'JSON object for the update module')
    .option('--clears-provides <pattern>', 'pattern to add; repeatable', collect)
    .option('--delete-clears-provides <pattern>', 'pattern to remove; repeatable', collect)
    .option('--tmp <folder>', 'where the payload is unpacked')
    .option('--no-progress', 'no progress on stderr')
    .addOption(compressionOption());
  withKeyOptions(bare, 'private key to sign the changed artifact with')
    .addHelpText('after', EXAMPLES)
    .action(async (file, options, command) => {
      const signer = await openSigner(options);
      await expectFiles([options.serverCert, options.verificationKey]);
      const changes = { ...options, artifactName: options.artifactName ?? options.name };
      const { signal } = context;
      if (!(await isArtifactFile(file))) {
        const stray = HEADER_OPTIONS.find((option) => options[option] !== undefined);
        if (stray !== undefined) return command.error(`error: ${stray} is only for artifacts`);
        await using copy = await openWorkingCopy(file, signal);
        await changeAllRoots(copy.path, changes, { tmp: options.tmp, signal });
        await copy.commit();
        return;
      }
      const compression = chosenOrOwnCompression(command);
      const unpacks =
        needsFiles(changes) || changes.artifactName !== undefined || compression !== undefined;
      const setup = { context, tmp: options.tmp, unpacks, progress: options.progress };
      await using edit = await ArtifactEdit.open(file, setup);
      const hasRootfs = edit.artifact.info.payloadType === 'rootfs-image';
      if (needsFiles(changes)) {
        await changeAllRoots(edit.rootfsFile(), changes, { tmp: options.tmp, signal });
      } else if (changes.artifactName !== undefined && hasRootfs) {
        await nameInside(edit, changes, { context, tmp: options.tmp });
      }
      const header = await changedHeader(edit.artifact, changes);
      await edit.save({ header, signer, compression });
    });
}

/** Writes the name into the filesystem where that can be; the header has it in any case. */
async function nameInside(
  edit: ArtifactEdit,
  changes: FileChanges,
  { context, tmp }: { readonly context: CliContext; readonly tmp: string | undefined },
): Promise<void> {
  try {
    await changeAllRoots(edit.rootfsFile(), changes, { tmp, signal: context.signal });
  } catch (thrown) {
    const isNoPlace =
      thrown instanceof IngotError &&
      ['source-unsupported', 'artifact-unsupported', 'file-not-found'].includes(thrown.code);
    if (!isNoPlace) throw thrown;
    context.stderr.write(`warning: the name is not written inside the image: ${thrown.message}\n`);
  }
}
