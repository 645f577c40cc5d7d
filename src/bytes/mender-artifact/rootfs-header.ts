import type { Digest } from '../../base/index.ts';
import { type ArtifactHeader, ROOTFS_IMAGE, type StateScript } from './artifact.ts';
import type { HeaderInfo } from './header-info.ts';
import {
  defaultClearsProvides,
  type SoftwareVersion,
  withSoftwareVersion,
} from './software-version.ts';
import type { DependsValue } from './type-info.ts';
import type { FormatVersion } from './version-file.ts';

/** What is known of a rootfs-image artifact before its payload is. */
export interface RootfsDescription {
  readonly version: FormatVersion;
  readonly info: Omit<HeaderInfo, 'payloadType'>;
  readonly software: Omit<SoftwareVersion, 'artifactName' | 'payloadType'>;
  /** Whether the software version goes over a provide of the same key. */
  readonly softwareOverrides: boolean;
  readonly provides: ReadonlyMap<string, string>;
  readonly depends: ReadonlyMap<string, DependsValue>;
  readonly clearsProvides: readonly string[];
  /** Whether the usual patterns are added to `clearsProvides`. */
  readonly addsDefaultClears: boolean;
  /** Key of the payload's digest in provides, or undefined to leave it out. */
  readonly checksumKey: string | undefined;
  readonly scripts: readonly StateScript[];
}

/**
 * Makes the header of a rootfs-image artifact.
 *
 * @param digest SHA-256 of the image
 * @see docs/formats/mender-artifact.md "Defaults"
 */
export function rootfsHeader(description: RootfsDescription, digest: Digest): ArtifactHeader {
  const { info, checksumKey, clearsProvides } = description;
  const software = {
    ...description.software,
    artifactName: info.name,
    payloadType: ROOTFS_IMAGE,
  };
  const provides = withSoftwareVersion(description.provides, software, {
    overrides: description.softwareOverrides,
  });
  return {
    version: description.version,
    info: { ...info, payloadType: ROOTFS_IMAGE },
    payload: {
      typeInfo: {
        type: ROOTFS_IMAGE,
        provides:
          checksumKey === undefined ? provides : new Map([...provides, [checksumKey, digest]]),
        depends: description.depends,
        clearsProvides: description.addsDefaultClears
          ? defaultClearsProvides(clearsProvides, software)
          : clearsProvides,
      },
      metaData: undefined,
    },
    augment: undefined,
    scripts: description.scripts,
  };
}
