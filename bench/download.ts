import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startBenchDaemon } from './daemon.ts';
import type { BenchContext } from './main.ts';
import { compare, table } from './measure.ts';

const NGINX_PORT = 18_993;

function startNginx(folder: string): { readonly stop: () => Promise<void> } {
  const config = join(folder, 'nginx.conf');
  writeFileSync(
    config,
    `daemon off; pid ${folder}/nginx.pid; error_log ${folder}/nginx.err; worker_processes 1; user root;
events {} http { access_log off; sendfile on; server { listen 127.0.0.1:${NGINX_PORT}; root ${folder}; } }`,
  );
  const child = spawn('nginx', ['-c', config], { stdio: 'ignore' });
  return {
    stop: async () => {
      const gone = once(child, 'exit');
      if (child.kill('SIGQUIT')) await gone;
    },
  };
}

/** `.gz` over HTTP on loopback, against nginx with the same bytes as a plain file. */
export async function downloadFigures(context: BenchContext): Promise<string> {
  const folder = join(context.scratch, 'www');
  mkdirSync(folder, { recursive: true });
  await using daemon = await startBenchDaemon(context.env);
  const idleMb = daemon.peakMemoryMb();
  daemon.ingot('images', 'import', '--quiet', '--free-space', 'zero', '--name', 'w1', context.w1);
  const images: { id: string }[] = JSON.parse(daemon.ingot('images', 'list', '--json'));
  const id = images[0]?.id ?? '';
  const plain = join(folder, 'image.gz');
  daemon.ingot('images', 'download', id, '--quiet', '-o', plain);
  const sizeMb = statSync(plain).size / 1e6;
  const token = await daemon.token();
  const nginx = startNginx(folder);
  try {
    const curl = 'curl -sf --retry 5 --retry-connrefused -o /dev/null';
    const cpuBefore = daemon.cpuSeconds();
    const standings = compare(
      [
        {
          name: 'ingot',
          command: `for i in 1 2 3 4 5; do ${curl} -H "Authorization: Bearer $INGOT_BENCH_TOKEN" ${daemon.url}/api/ingot/v1/images/${id}/gzip; done`,
          env: { INGOT_BENCH_TOKEN: token },
        },
        {
          name: 'nginx',
          command: `for i in 1 2 3 4 5; do ${curl} http://127.0.0.1:${NGINX_PORT}/image.gz; done`,
        },
      ],
      context.rounds,
    );
    const [ours, theirs] = standings;
    const wall = ours?.wallSeconds ?? Number.NaN;
    const share = (100 * (theirs?.wallSeconds ?? Number.NaN)) / wall;
    const cpu = (daemon.cpuSeconds() - cpuBefore) / (5 * context.rounds);
    return [
      table(`.gz download of W1, five times ${sizeMb.toFixed(0)} MB`, standings),
      `ingot: ${((5 * sizeMb) / wall).toFixed(0)} MB/s with coded CRCs checked, ${share.toFixed(0)} % of nginx; the daemon takes ${cpu.toFixed(2)} s of CPU for one, its peak is ${daemon.peakMemoryMb().toFixed(0)} MB, ${idleMb.toFixed(0)} MB before the import.`,
      '',
    ].join('\n');
  } finally {
    await nginx.stop();
  }
}
