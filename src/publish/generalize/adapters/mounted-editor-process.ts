/**
 * The program that changes files of a mounted image; started by {@link editMounted} as root in a
 * mount namespace of its own, which ends with it: whatever kills it, nothing stays mounted.
 *
 * Reads lines of JSON on stdin: what to mount, then a step each, then `"end"`. Says `mounted` once it
 * is, `done` when all steps are carried out and the filesystem is unmounted, or `failed` with a
 * reason. Ends when stdin does.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { errnoOf } from '../../../base/index.ts';
import { editBelow } from './edit-below.ts';
import { type MountRequest, mountArguments, parseStep } from './mounted-edit-lines.ts';

function say(answer: object): void {
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

/** Runs `mount` or `umount`. @throws Error with what it said */
function runTool(name: string, argv: readonly string[]): void {
  const { status, stderr, error } = spawnSync(name, argv, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(stderr.trim().split('\n')[0] ?? `${name} ended with ${status}`);
}

/**
 * Looks whether what is mounted is the file: a filesystem with the same id that this machine has
 * mounted already must not be changed in its place.
 */
function checkMounted({ file, mountPoint }: MountRequest): void {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const line = lines.findLast((one) => one.split(' ')[4] === mountPoint);
  const device = /^\S+ (\/dev\/(loop\d+)) /.exec(line?.split(' - ')[1] ?? '')?.[2] ?? 'none';
  const backing = readFileSync(`/sys/block/${device}/loop/backing_file`, 'utf8').trimEnd();
  if (backing !== file) throw new Error(`the mount shows ${backing}, not ${file}`);
}

function mount(request: MountRequest): void {
  if (readlinkSync('/proc/self/ns/mnt') === request.outerNamespace) {
    throw new Error('this process has no mount namespace of its own');
  }
  runTool('mount', mountArguments(request));
  checkMounted(request);
  say({ state: 'mounted' });
}

async function main(): Promise<void> {
  let request: MountRequest | undefined;
  for await (const line of createInterface({ input: process.stdin })) {
    const message: unknown = JSON.parse(line);
    if (request === undefined) {
      request = message as MountRequest;
      mount(request);
    } else if (message === 'end') {
      runTool('umount', [request.mountPoint]);
      say({ state: 'done' });
      return;
    } else {
      editBelow(request.mountPoint, parseStep(message));
    }
  }
  // The other side is gone: what was done is not wanted any more.
  process.exitCode = 1;
}

try {
  await main();
} catch (thrown) {
  const words = thrown instanceof Error ? thrown.message : String(thrown);
  say({ state: 'failed', words, errno: errnoOf(thrown) ?? '' });
  process.exitCode = 1;
}
// A reader that still waits for lines would keep the process, and the mount with it.
process.stdin.destroy();
