import { INGOT, startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { compare, table } from './measure.ts';

/** A Mender Artifact from a file and from a library image, against mender-artifact. */
export async function artifactFigures(context: BenchContext): Promise<string> {
  const { scratch } = context;
  await using daemon = await startBenchDaemon(context.env);
  const parts: string[] = [];
  for (const [label, image] of [
    ['W1', context.w1],
    ['W2', context.w2],
  ] as const) {
    daemon.ingot('images', 'import', '--quiet', '--free-space', 'zero', '--name', label, image);
    const images: { id: string; name: string }[] = JSON.parse(
      daemon.ingot('images', 'list', '--json'),
    );
    const id = images.find(({ name }) => name === label)?.id ?? '';
    const write = `${INGOT} artifact write rootfs-image -n r -c d --no-progress -o ${scratch}/ours.mender`;
    const began = performance.now();
    daemon.ingot(
      'artifact',
      'write',
      'rootfs-image',
      '-f',
      id,
      '-n',
      'r',
      '-c',
      'd',
      '-o',
      `${scratch}/ours.mender`,
    );
    const firstSeconds = (performance.now() - began) / 1000;
    parts.push(
      table(
        `Mender Artifact of ${label}`,
        compare(
          [
            { name: 'ingot, from the library', command: `${write} -f ${id}`, env: daemon.env },
            { name: 'ingot, from a file', command: `${write} -f ${image}`, env: daemon.env },
            {
              name: 'mender-artifact write',
              command: `mender-artifact write rootfs-image -f ${image} -n r -t d --no-progress -o ${scratch}/peer.mender`,
            },
          ],
          context.rounds,
        ),
      ),
      `The first one from the library, disk digest not known yet: ${firstSeconds.toFixed(2)} s.\n`,
    );
  }
  return parts.join('\n');
}
