import { ROOTFS_IMAGE } from './artifact.ts';

/** How the installed software is named in an artifact's provides. */
export interface SoftwareVersion {
  readonly artifactName: string;
  /** First part of the key; `rootfs-image` if it is not given. */
  readonly filesystem: string | undefined;
  /** Second part of the key. */
  readonly name: string | undefined;
  /** The artifact's name if it is not given. */
  readonly version: string | undefined;
  /** `rootfs-image`, or the name of an update module, which is then the default name. */
  readonly payloadType: string;
  /** False leaves out what nobody asked for, as old clients need it. */
  readonly usesDefaults: boolean;
}

/**
 * Gives the provide that names the software's version, such as `rootfs-image.version`.
 *
 * @returns key and value, or undefined when there is none
 * @see docs/formats/mender-artifact.md "Defaults"
 */
function softwareVersionProvide(software: SoftwareVersion): readonly [string, string] | undefined {
  const { usesDefaults, payloadType, artifactName } = software;
  const defaultName = payloadType === ROOTFS_IMAGE ? undefined : payloadType;
  const name = software.name ?? (usesDefaults ? defaultName : undefined);
  const version = software.version ?? (usesDefaults ? artifactName : undefined);
  if (version === undefined) return undefined;
  const key = [software.filesystem ?? ROOTFS_IMAGE, name, 'version'];
  return [key.filter((part) => part !== undefined).join('.'), version];
}

/**
 * Adds the software version to provides that were given.
 *
 * @param options `overrides`: whether it goes over a given provide of the same key
 */
export function withSoftwareVersion(
  given: ReadonlyMap<string, string>,
  software: SoftwareVersion,
  { overrides }: { readonly overrides: boolean },
): ReadonlyMap<string, string> {
  const provide = softwareVersionProvide(software);
  if (provide === undefined) return given;
  const [key, value] = provide;
  return given.has(key) && !overrides ? given : new Map([...given, [key, value]]);
}

/**
 * Adds the patterns of provides that installing clears unless somebody said otherwise.
 *
 * @param given what was asked for; it stays first
 * @see docs/formats/mender-artifact.md "Defaults"
 */
export function defaultClearsProvides(
  given: readonly string[],
  software: SoftwareVersion,
): readonly string[] {
  if (!software.usesDefaults) return given;
  const filesystem = software.filesystem ?? ROOTFS_IMAGE;
  const isRootfs = software.payloadType === ROOTFS_IMAGE;
  const name = software.name ?? (isRootfs ? undefined : software.payloadType);
  const clears = [...given];
  if (isRootfs && software.name === undefined && filesystem === ROOTFS_IMAGE) {
    // The second is what the checksum was called before mender-artifact 3.5.
    clears.push('artifact_group', 'rootfs_image_checksum');
  }
  const pattern = name === undefined ? `${filesystem}.*` : `${filesystem}.${name}.*`;
  if (!clears.includes(pattern)) clears.push(pattern);
  return clears;
}
