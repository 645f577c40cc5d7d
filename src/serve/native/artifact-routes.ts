import { z } from 'zod';
import { type Id, IngotError } from '../../base/index.ts';
import { checkNewPayloadName, nameFaults, type RootfsDescription } from '../../bytes/index.ts';
import type { AccountLibrary } from '../../keep/index.ts';
import { type PublishedFile, publishImageArtifact } from '../../publish/index.ts';
import { goneSignal } from './gone-signal.ts';
import { imageParams, type NativeServer, type RouteContext } from './routes.ts';
import { sendFile } from './send-file.ts';

/** Values of one repeatable name. */
const MAX_VALUES = 64;
/** Characters of one value; Mender's own limits are checked beside. */
const MAX_VALUE = 512;

const text = z
  .string()
  .min(1)
  .max(MAX_VALUE)
  .regex(/^[^\p{Cc}]*$/u, 'has a control character');
const pair = text.regex(/^[^:]+:/, 'is not of the form KEY:VALUE');

/** A name that may stand in the query once or several times. */
function several<T extends z.ZodType>(values: T) {
  return z.preprocess(
    (given) => (given === undefined || Array.isArray(given) ? given : [given]),
    values,
  );
}

/** On unless the query says `false`. */
const flag = z
  .enum(['true', 'false'])
  .default('true')
  .transform((said) => said === 'true');

const CHECKSUM_KEYS = {
  current: 'rootfs-image.checksum',
  legacy: 'rootfs_image_checksum',
  none: undefined,
} as const;

const deviceTypes = several(z.array(text).min(1).max(MAX_VALUES));
const texts = several(z.array(text).max(MAX_VALUES).default([]));
const pairs = several(z.array(pair).max(MAX_VALUES).default([]));

const artifactQuery = z.strictObject({
  name: text.regex(/^\S*$/, 'must not hold a blank').describe('The artifact name.'),
  device_type: deviceTypes.describe('Kind of device that it fits; repeatable.'),
  group: texts.describe('Group that the device must be in; repeatable.'),
  provides_group: text.optional().describe('Group that it puts the device in.'),
  depends: pairs.describe('KEY:VALUE that the device must have; repeatable.'),
  provides: pairs.describe('KEY:VALUE that it gives to the device; repeatable.'),
  software_name: text.optional().describe('Second part of the key of the software version.'),
  software_version: text.optional().describe('Its value; by default the artifact name.'),
  software_filesystem: text.optional().describe('First part of the key; by default rootfs-image.'),
  depends_name: texts.describe('Artifact name that must be installed before; repeatable.'),
  clears_provides: texts.describe('Pattern of provides that installing clears; repeatable.'),
  default_clears_provides: flag.describe('Whether the usual patterns are cleared too.'),
  default_software_version: flag.describe('Whether a software version is written unasked.'),
  checksum_provide: z
    .enum(['current', 'legacy', 'none'])
    .default('current')
    .describe("Key of the disk's checksum: rootfs-image.checksum, rootfs_image_checksum, none."),
  payload_name: text.default('rootfs.ext4').describe('Name of the file inside.'),
});

type ArtifactQuery = z.output<typeof artifactQuery>;

/** Gives an image out as a Mender Artifact, put together from its stored segments. */
export function artifactRoutes(server: NativeServer, context: RouteContext): void {
  const { backend, access, clock, log, metrics, takeMemory } = context;
  server.route({
    method: ['GET', 'HEAD'],
    url: '/images/:id/artifact',
    exposeHeadRoute: false,
    schema: {
      summary: 'Downloads an image as an unsigned Mender Artifact; Range, If-Range, ETag',
      tags: ['images'],
      params: imageParams,
      querystring: artifactQuery,
      produces: ['application/vnd.mender-artifact'],
    },
    handler: async (request, reply) => {
      const library = backend.library(access.caller(request));
      const gone = goneSignal(reply.raw);
      const file = await openArtifact(library, request.params.id, request.query, gone);
      const countBytes = (bytes: number): void => metrics.sentBytes(bytes);
      await sendFile(request, reply, file, {
        clock,
        log,
        countBytes,
        takeMemory: takeMemory(request, 'gzip'),
      });
    },
  });
}

/** The words are checked first: the digest may mean that the whole disk is read back. */
async function openArtifact(
  library: AccountLibrary,
  id: Id<'img'>,
  query: ArtifactQuery,
  signal: AbortSignal,
): Promise<PublishedFile> {
  const description = descriptionOf(query);
  const payloadName = query.payload_name;
  checkNewPayloadName(payloadName);
  const plainDigest = await library.plainDigest(id, signal);
  await using undo = new AsyncDisposableStack();
  const image = undo.use(await library.open(id));
  const file = publishImageArtifact(image, { description, payloadName, plainDigest });
  undo.move();
  return file;
}

/** @throws IngotError `request-invalid` for names that Mender refuses */
function descriptionOf(query: ArtifactQuery): RootfsDescription {
  const info = {
    name: query.name,
    group: query.provides_group,
    dependsNames: query.depends_name,
    deviceTypes: query.device_type,
    dependsGroups: query.group,
  };
  for (const fault of nameFaults(info)) throw new IngotError('request-invalid', fault);
  const software = {
    filesystem: query.software_filesystem,
    name: query.software_name,
    version: query.software_version,
  };
  return {
    version: 3,
    info,
    software: { ...software, usesDefaults: query.default_software_version },
    // What was said beats what nobody asked for, as on the command line.
    softwareOverrides: Object.values(software).some((said) => said !== undefined),
    provides: pairsOf(query.provides),
    depends: pairsOf(query.depends),
    clearsProvides: query.clears_provides,
    addsDefaultClears: query.default_clears_provides,
    checksumKey: CHECKSUM_KEYS[query.checksum_provide],
    scripts: [],
  };
}

/** The last of one key wins. */
function pairsOf(given: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    given.map((both) => {
      const colon = both.indexOf(':');
      return [both.slice(0, colon), both.slice(colon + 1)];
    }),
  );
}
