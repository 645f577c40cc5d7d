import type { ArtifactPayload } from '../../../../publish/index.ts';

/** Lets the digest of a regular file be computed beside everything else that is done with it. */
export function apartDigestOf(path: string): NonNullable<ArtifactPayload['digestApart']> {
  return async (options) => {
    const { openFastestCodec } = await import('../../../../keep/adapters/fastest-segment-codec.ts');
    const { digestOfFile } = await import('../../support/file-digest.ts');
    const { codec } = await openFastestCodec();
    return await digestOfFile(path, codec.name, options);
  };
}
