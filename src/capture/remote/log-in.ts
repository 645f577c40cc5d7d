import { randomBytes } from 'node:crypto';
import { type Clock, IngotError, isFailure } from '../../base/index.ts';
import { MAX_FRAME_LINE_BYTES, parsePullFrame } from '../../bytes/index.ts';
import { ByteQueue } from './byte-queue.ts';
import type { DeviceChannel } from './device-channel.ts';
import { DeviceSession } from './device-session.ts';

/** Reads one block from stdin and runs it, and takes no byte of what comes behind. */
const RUN_NEXT_BLOCK = 'IFS= read -r n; s=$(dd bs=1 count="$n" 2>/dev/null); eval "$s"';

/** The command that ssh runs: every login shell can, so it holds neither `!` nor a quote inside. */
export const SESSION_COMMAND = `sh -c '${RUN_NEXT_BLOCK}'`;

/** What login scripts may print before the script's own first line. */
const MAX_GREETING_BYTES = 64 * 1024;
const MAX_PASSWORD_TRIES = 3;

/**
 * Asks for the password of sudo on the device.
 *
 * @param attempt 1 for the first time, more when the one before was wrong
 * @returns undefined when there is nobody to ask
 */
export type AskPassword = (attempt: number) => Promise<string | undefined>;

function block(script: string): string {
  return `${Buffer.byteLength(script)}\n${script}`;
}

/** Becomes root: by itself, or through sudo, which asks with `nonce` in its prompt. */
function becomeRoot(nonce: string): string {
  return `b='${RUN_NEXT_BLOCK}'
if [ "$(id -u)" = 0 ]; then echo 'INGOT root ${nonce}'; exec /bin/sh -c "$b"; fi
command -v sudo >/dev/null 2>&1 || { echo 'INGOT no-sudo'; exit 96; }
exec sudo -S -p '[${nonce}]' /bin/sh -c "echo 'INGOT root ${nonce}'; $b"
`;
}

function refused(channel: DeviceChannel, reason: string): IngotError {
  return new IngotError('remote-refused', `${channel.name}: ${reason}`);
}

/** Answers sudo's prompts until the session is root; rejects when it cannot be. */
async function answerPrompts(
  channel: DeviceChannel,
  prompt: string,
  askPassword: AskPassword,
  isRoot: () => boolean,
): Promise<never> {
  let isOver = false;
  const over = channel.ended.then(() => {
    isOver = true;
  });
  let answered = 0;
  while (!isOver && !isRoot()) {
    if (channel.timesOnStderr(prompt) <= answered) {
      await Promise.race([channel.stderrChanged(), over]);
      continue;
    }
    answered += 1;
    const password = answered > MAX_PASSWORD_TRIES ? undefined : await askPassword(answered);
    if (password === undefined) {
      throw refused(
        channel,
        answered === 1 ? 'sudo asks for a password' : 'sudo did not take the password',
      );
    }
    if (/[\n\0]/.test(password)) throw refused(channel, 'a password with a line end');
    channel.write(`${password}\n`);
  }
  // Who waits for the greeting tells what happened.
  return new Promise<never>(() => undefined);
}

/** Drops what login scripts print, up to the line that says that root is there. */
async function rootIsThere(queue: ByteQueue, channel: DeviceChannel, nonce: string): Promise<void> {
  try {
    for (let droppedBytes = 0; droppedBytes < MAX_GREETING_BYTES; ) {
      const line = await queue.line(MAX_GREETING_BYTES);
      droppedBytes += line.length + 1;
      if (line.length > MAX_FRAME_LINE_BYTES) continue;
      // A login script may leave its last line open.
      const at = line.lastIndexOf('INGOT ');
      const frame = at < 0 ? undefined : parsePullFrame(line.slice(at));
      if (frame?.kind === 'root' && frame.nonce === nonce) return;
      if (frame?.kind === 'no-sudo') {
        throw refused(channel, 'the user is not root and there is no sudo');
      }
    }
  } catch (thrown) {
    if (!isFailure(thrown, 'source-truncated')) throw thrown;
    throw await endedEarly(channel, nonce);
  }
  throw new IngotError('frame-malformed', 'the login scripts print more than 64 KiB');
}

async function endedEarly(channel: DeviceChannel, nonce: string): Promise<IngotError> {
  const { status, signal } = await channel.ended;
  const words = channel.stderrTail().replaceAll(`[${nonce}]`, '').trim();
  const facts = { status: status ?? signal ?? 'none' };
  // 255 is ssh's own failure (ssh(1) EXIT STATUS); anything else comes from the device.
  if (status === 255 || status === undefined) {
    return new IngotError(
      'ssh-failed',
      `${channel.name} cannot be reached (ssh ended with ${status ?? signal}): ${words}`,
      facts,
    );
  }
  return new IngotError(
    'remote-refused',
    `${channel.name} did not let the capture run as root (status ${status}): ${words}`,
    facts,
  );
}

/**
 * Becomes root on the device and starts the script there.
 *
 * Owns the channel from the call on; the session that it returns owns it then.
 *
 * @throws IngotError `ssh-failed`, `remote-refused`, `frame-malformed`, `version-unknown`
 */
export async function logIn(
  channel: DeviceChannel,
  setup: { readonly script: string; readonly askPassword: AskPassword; readonly clock: Clock },
): Promise<DeviceSession> {
  await using undo = new AsyncDisposableStack();
  undo.use(channel);
  const nonce = randomBytes(8).toString('hex');
  const queue = new ByteQueue(channel.output, { ownsPieces: true });
  channel.write(block(becomeRoot(nonce)));
  let isRoot = false;
  const greeting = rootIsThere(queue, channel, nonce).then(() => {
    isRoot = true;
  });
  await Promise.race([
    greeting,
    answerPrompts(channel, `[${nonce}]`, setup.askPassword, () => isRoot),
  ]);
  channel.write(block(setup.script));
  const session = new DeviceSession(channel, queue, setup.clock);
  undo.use(session);
  await session.greeted();
  undo.move();
  return session;
}
