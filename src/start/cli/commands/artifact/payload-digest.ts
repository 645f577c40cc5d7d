import type { ArtifactPayload } from '../../../../publish/index.ts';

const fastest = () => import('../../../../keep/adapters/fastest-segment-codec.ts');

/**
 * Lets the digest of a regular file be computed beside everything else that is done with it, and
 * the file be coded by threads that read it themselves.
 */
export function apartOf(
  path: string,
): Required<Pick<ArtifactPayload, 'digestApart' | 'codeApart'>> {
  return {
    digestApart: async (options) => {
      const { openFastestCodec } = await fastest();
      const { digestOfFile } = await import('../../support/file-digest.ts');
      const { codec } = await openFastestCodec();
      return await digestOfFile(path, codec.name, options);
    },
    codeApart: async function* (options) {
      const { openFastestCodec } = await fastest();
      const { codeFile } = await import('./coded-file.ts');
      const { codec } = await openFastestCodec();
      return yield* codeFile(path, codec.name, options);
    },
  };
}
