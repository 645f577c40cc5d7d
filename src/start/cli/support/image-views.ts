import { formatBytes, formatDuration, isoTime, mebibytesRoundedUp } from '../../../base/index.ts';
import type { Image } from '../../../keep/index.ts';
import { type Column, formatFields } from './brightbox-table.ts';

/** How the guide names the owner of official images. */
const OFFICIAL_OWNER = 'brightbox';

function ownerOf(image: Image): string {
  return image.isOfficial ? OFFICIAL_OWNER : image.ownerId;
}

function typeOf(image: Image): string {
  return image.isOfficial ? 'official' : image.kind;
}

/** The guide shows one word: who may see an image that can be used, else what is in the way. */
function statusOf(image: Image): string {
  if (image.status !== 'available') return image.status;
  return image.isPublic ? 'public' : 'private';
}

/** The columns of the guide's `brightbox-images list`. */
export const IMAGE_COLUMNS: readonly Column<Image>[] = [
  { heading: 'id', text: (image) => image.id },
  { heading: 'owner', text: ownerOf },
  { heading: 'type', text: typeOf },
  { heading: 'created_on', text: (image) => isoTime(image.createdAt).slice(0, 10) },
  { heading: 'status', text: statusOf },
  { heading: 'size', text: (image) => String(mebibytesRoundedUp(image.virtualSizeBytes)) },
  { heading: 'name', text: (image) => `${image.name} (${image.arch})` },
];

/** What `--long` adds, before the name. */
export const LONG_IMAGE_COLUMNS: readonly Column<Image>[] = [
  ...IMAGE_COLUMNS.slice(0, -1),
  { heading: 'disk_size', text: (image) => String(mebibytesRoundedUp(image.gzipSizeBytes)) },
  { heading: 'added', text: (image) => formatBytes(image.addedBytes) },
  { heading: 'consistency', text: (image) => image.capture.consistency },
  { heading: 'filesystem', text: (image) => image.capture.filesystem ?? '' },
  { heading: 'ancestor', text: (image) => image.ancestorId ?? '' },
  { heading: 'locked', text: (image) => String(image.isLocked) },
  ...IMAGE_COLUMNS.slice(-1),
];

/** The guide's order: official ones by name, own uploads by name, snapshots at the end by age. */
export function inListOrder(images: readonly Image[]): Image[] {
  const rank = (image: Image): number => {
    if (image.isOfficial) return 0;
    return image.kind === 'snapshot' ? 2 : 1;
  };
  const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
  return images.toSorted((a, b) => {
    const byRank = rank(a) - rank(b);
    if (byRank !== 0) return byRank;
    if (rank(a) === 2) return a.createdAt - b.createdAt || compareText(a.id, b.id);
    return (
      compareText(a.name, b.name) ||
      compareText(a.arch, b.arch) ||
      compareText(statusOf(a), statusOf(b)) ||
      b.createdAt - a.createdAt ||
      compareText(a.id, b.id)
    );
  });
}

/** The fields of the guide's `brightbox-images show`; `isLong` adds what Ingot knows beside. */
export function formatImage(image: Image, { isLong }: { readonly isLong: boolean }): string {
  const fields: [string, string][] = [
    ['id', image.id],
    ['type', typeOf(image)],
    ['owner', ownerOf(image)],
    ['created_at', isoTime(image.createdAt)],
    ['status', statusOf(image)],
    ['arch', image.arch],
    ['name', `${image.name} (${image.arch})`],
    ['description', image.description],
    ['virtual_size', String(mebibytesRoundedUp(image.virtualSizeBytes))],
    ['disk_size', String(mebibytesRoundedUp(image.gzipSizeBytes))],
    ['compatibility_mode', String(image.compatibilityMode)],
    ['official', String(image.isOfficial)],
    ['ancestor_id', image.ancestorId ?? ''],
  ];
  if (isLong) fields.push(...longFields(image));
  return formatFields(fields);
}

function longFields(image: Image): [string, string][] {
  const { capture } = image;
  return [
    ['public', String(image.isPublic)],
    ['locked', String(image.isLocked)],
    ['virtual_bytes', String(image.virtualSizeBytes)],
    ['gzip_bytes', String(image.gzipSizeBytes)],
    ['added_bytes', String(image.addedBytes)],
    ['sha256', image.plainDigest ?? ''],
    ['consistency', capture.consistency],
    ['freeze', formatDuration(capture.freezeMs)],
    ['filesystem', capture.filesystem ?? ''],
    ['source', capture.source],
    ['free_space', capture.freeSpace],
    ...(image.failure === undefined ? [] : [['failure', image.failure] as [string, string]]),
  ];
}

/** An image as `--json` shows it. */
export function imageJson(image: Image): Record<string, unknown> {
  return {
    id: image.id,
    type: typeOf(image),
    owner: ownerOf(image),
    created_at: isoTime(image.createdAt),
    status: statusOf(image),
    arch: image.arch,
    name: image.name,
    description: image.description,
    virtual_size: mebibytesRoundedUp(image.virtualSizeBytes),
    disk_size: mebibytesRoundedUp(image.gzipSizeBytes),
    compatibility_mode: image.compatibilityMode,
    official: image.isOfficial,
    ancestor_id: image.ancestorId ?? null,
    public: image.isPublic,
    locked: image.isLocked,
    virtual_size_bytes: image.virtualSizeBytes,
    gzip_size_bytes: image.gzipSizeBytes,
    added_bytes: image.addedBytes,
    sha256: image.plainDigest ?? null,
    consistency: image.capture.consistency,
    freeze_ms: image.capture.freezeMs,
    filesystem: image.capture.filesystem ?? null,
    source: image.capture.source,
    free_space: image.capture.freeSpace,
    failure: image.failure ?? null,
  };
}
