/**
 * Plays the main job: a live filesystem becomes an image, and the image a `.gz` and a Mender
 * Artifact. Everything happens in a temporary folder, which is removed at the end.
 *
 * Without root nothing can be mounted or frozen: the demo then imports a filesystem image instead,
 * and says so.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ensureDebianPackages } from './debian-packages.ts';

const root = join(import.meta.dirname, '..');
const ingot = join(root, 'bin/ingot');
const isRoot = process.getuid?.() === 0;
const startedAt = performance.now();
const DAEMON_START_LIMIT_MS = 30_000;

const say = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** Runs a command and shows it as a user would see it. @returns its stdout */
function show(
  env: NodeJS.ProcessEnv,
  words: readonly string[],
  { quiet = false }: { readonly quiet?: boolean } = {},
): string {
  const shown = words.map((word) => (/[\s"'$]/.test(word) ? `'${word}'` : word)).join(' ');
  say(`\n$ ${shown}`);
  const [program = '', ...args] = words;
  const began = performance.now();
  const done = spawnSync(program === 'ingot' ? ingot : program, args, {
    encoding: 'utf8',
    env,
    maxBuffer: 64 * 1024 * 1024,
  });
  const text = `${done.stderr}${quiet ? '' : done.stdout}`.trimEnd();
  if (text !== '') say(text);
  if (done.status !== 0) throw new Error(`${shown} ended with ${done.status ?? done.signal}`);
  say(`  (${((performance.now() - began) / 1000).toFixed(1)} s)`);
  return done.stdout;
}

function run(program: string, ...args: string[]): void {
  const done = spawnSync(program, args, { encoding: 'utf8' });
  if (done.status !== 0) {
    throw new Error(`${program} ${args.join(' ')} ended with ${done.status}: ${done.stderr}`);
  }
}

/** A tree that looks like a small root filesystem: this checkout's Node, sources and a release file. */
function fillTree(folder: string): void {
  mkdirSync(join(folder, 'etc'), { recursive: true });
  writeFileSync(join(folder, 'etc/os-release'), 'NAME="Golden"\nVERSION="1"\n');
  run('cp', '-a', join(root, 'src'), join(root, 'docs'), folder);
  mkdirSync(join(folder, 'usr/bin'), { recursive: true });
  run('cp', '-L', process.execPath, join(folder, 'usr/bin/node'));
}

/** Makes the filesystem, mounted where that is allowed. @returns what `images import` is given */
function makeGolden(folder: string, undo: DisposableStack): string[] {
  const disk = join(folder, 'golden.ext4');
  writeFileSync(disk, '');
  truncateSync(disk, 512 * 1024 * 1024);
  if (!isRoot) {
    say('not root: nothing is mounted or frozen; a filesystem image is imported instead');
    const tree = join(folder, 'tree');
    fillTree(tree);
    run('/sbin/mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, disk);
    return [disk, '--free-space', 'zero'];
  }
  const mountPoint = join(folder, 'golden');
  mkdirSync(mountPoint);
  run('mke2fs', '-q', '-F', '-t', 'ext4', disk);
  run('mount', '-o', 'loop', disk, mountPoint);
  undo.defer(() => run('umount', mountPoint));
  fillTree(mountPoint);
  say(`made and mounted an ext4 filesystem of 512 MiB at ${mountPoint}`);
  return ['--source', mountPoint];
}

async function startDaemon(
  env: NodeJS.ProcessEnv,
  data: string,
  undo: AsyncDisposableStack,
): Promise<void> {
  say(`\n$ ingot serve --data ${data} --listen 127.0.0.1:0 &`);
  const daemon: ChildProcess = spawn(ingot, ['serve', '--data', data, '--listen', '127.0.0.1:0'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  undo.defer(async () => {
    const gone = once(daemon, 'exit');
    if (daemon.kill('SIGTERM')) await gone;
  });
  const stderr = daemon.stderr;
  if (stderr === null) throw new Error('the daemon has no stderr');
  const ready = (async () => {
    for await (const line of createInterface({ input: stderr })) {
      say(line);
      if (line.includes('listening')) return;
    }
    throw new Error('the daemon ended before it listened');
  })();
  const limit = new Promise<never>((_, reject) => {
    setTimeout(
      () => reject(new Error('the daemon did not listen within 30 s')),
      DAEMON_START_LIMIT_MS,
    ).unref();
  });
  await Promise.race([ready, limit]);
  stderr.resume();
}

async function demo(): Promise<void> {
  ensureDebianPackages(say, ['e2fsprogs', 'util-linux', 'libisal2', 'mender-artifact']);
  await using undo = new AsyncDisposableStack();
  const folder = mkdtempSync(join(tmpdir(), 'ingot-demo-'));
  undo.defer(() => rmSync(folder, { recursive: true, force: true }));
  const env = {
    ...process.env,
    XDG_CONFIG_HOME: join(folder, 'config'),
    XDG_DATA_HOME: join(folder, 'data'),
  };
  const mounts = new DisposableStack();
  undo.use(mounts);

  const source = makeGolden(folder, mounts);
  await startDaemon(env, join(folder, 'library'), undo);
  show(env, ['ingot', 'images', 'import', ...source, '--name', 'golden-1']);
  show(env, ['ingot', 'images', 'list']);
  const images = JSON.parse(
    spawnSync(ingot, ['images', 'list', '--json'], { encoding: 'utf8', env }).stdout,
  );
  const id: string = images[0].id;
  show(env, ['ingot', 'images', 'show', id]);

  const gzip = join(folder, `${id}.gz`);
  show(env, ['ingot', 'images', 'download', id, '-o', gzip]);
  show(env, ['gzip', '--test', '--verbose', gzip]);
  const artifact = join(folder, 'golden-1.mender');
  show(env, [
    'ingot',
    'artifact',
    'write',
    'rootfs-image',
    '-f',
    id,
    '-n',
    'golden-1',
    '-c',
    'raspberrypi4',
    '-o',
    artifact,
  ]);
  show(env, ['ingot', 'artifact', 'read', artifact]);
  show(env, ['ingot', 'artifact', 'validate', artifact]);
  if (spawnSync('mender-artifact', ['--version']).status === 0) {
    show(env, ['mender-artifact', 'validate', artifact]);
  }
  show(env, ['ingot', 'images', 'verify', id]);

  say('\nWhat happened:');
  say(`  ${isRoot ? 'a mounted filesystem was frozen, copied and thawed' : 'a file was imported'}`);
  say(`  ${id}.gz is ${statSync(gzip).size} bytes, golden-1.mender ${statSync(artifact).size}`);
  if (!isRoot) say('  left out without root: mounting, freezing, capturing a live filesystem');
  say(
    `  ${((performance.now() - startedAt) / 1000).toFixed(1)} s in all; everything is cleaned up`,
  );
}

await demo();
