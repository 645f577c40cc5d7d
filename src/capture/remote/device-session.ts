import { hash } from 'node:crypto';
import { type Clock, IngotError, isFailure } from '../../base/index.ts';
import {
  type Extent,
  MAX_FRAME_LINE_BYTES,
  type PullFrame,
  parsePullFrame,
  releaseMemory,
  totalBytes,
  type WireCodec,
} from '../../bytes/index.ts';
import type { ByteQueue } from './byte-queue.ts';
import type { DeviceChannel } from './device-channel.ts';
import { type OpenedDevice, parseOpenedDevice } from './device-facts.ts';
import { takeWirePayload, unpackPayload, type WirePayload } from './wire-payload.ts';
import { parseLogBase, parseWritten } from './write-log.ts';

const BEAT_EVERY_MS = 1000;
/** Facts of a device with thousands of mounts and disks; more is refused. */
const MAX_TEXT_BYTES = 4 * 1024 * 1024;
/** The device's shell reads its lines byte by byte, and a pipe holds 64 KiB. */
const MAX_COMMAND_BYTES = 4000;
const PROTOCOL_VERSION = 1;

/** Groups of ranges in one `sums` command. */
export const MAX_SUM_GROUPS = 8;

/** Programs of a device that compute digests. */
export type SumTool = 'b2sum' | 'sha256sum';

/** What a freeze on the device is made of. */
export type FreezePlan =
  | {
      readonly kind: 'mounts';
      readonly mounts: readonly { readonly mountId: number; readonly mountPoint: string }[];
    }
  | {
      readonly kind: 'lvm';
      readonly group: string;
      readonly volume: string;
      readonly extents: number;
    };

type FrameOf<K extends PullFrame['kind']> = Extract<PullFrame, { readonly kind: K }>;

/**
 * Speaks the pull protocol with a device whose script is running.
 *
 * Requests are answered in their order. After the first failure every later request fails with it.
 *
 * @see docs/formats/pull-protocol.md
 */
export class DeviceSession implements AsyncDisposable {
  readonly name: string;
  readonly #channel: DeviceChannel;
  readonly #queue: ByteQueue;
  readonly #clock: Clock;
  readonly #stopBeats = new AbortController();
  #lastAnswer: Promise<unknown> = Promise.resolve();
  #sequence = 0;
  #totalBytes = 0;
  #failure: unknown;
  /** The sector of the disk that the open device begins at, while writes are tracked. */
  #logBase: number | undefined;
  /** What coded payloads pass through, one after the other. */
  #scratch: Buffer = Buffer.alloc(0);

  constructor(channel: DeviceChannel, queue: ByteQueue, clock: Clock) {
    this.name = channel.name;
    this.#channel = channel;
    this.#queue = queue;
    this.#clock = clock;
    this.#beat(clock).catch(() => undefined);
  }

  /** What broke the session, or undefined while it is whole. */
  get failure(): unknown {
    return this.#failure;
  }

  /** Waits for the script's greeting. Call it first. */
  async greeted(): Promise<void> {
    const frame = await this.#exchange('', () => this.#frame('ready'));
    if (frame.version !== PROTOCOL_VERSION) {
      throw new IngotError('version-unknown', `the device speaks version ${frame.version}`);
    }
  }

  /** @returns the facts about the device, and about a path on it, as text */
  look(path: string): Promise<string> {
    return this.#exchange(`look ${oneLine(path)}\n`, () => this.#text());
  }

  /** Chooses the device to read. */
  async open(devicePath: string): Promise<OpenedDevice> {
    const text = await this.#exchange(`open ${oneLine(devicePath)}\n`, () => this.#text());
    return parseOpenedDevice(text);
  }

  /** @returns what the device's Mender client says that is installed: lines of `KEY=VALUE`, or none */
  provides(): Promise<string> {
    return this.#exchange('provides\n', () => this.#text());
  }

  /** Writes back what a filesystem of the device holds in memory. */
  async sync(mountPoint: string): Promise<void> {
    await this.#exchange(`sync ${oneLine(mountPoint)}\n`, () => this.#frame('ok'));
  }

  async flush(): Promise<void> {
    await this.#exchange('flush\n', () => this.#frame('ok'));
  }

  /**
   * Starts the kernel's log of what is written to the open device. Call it before the first read.
   *
   * @returns whether there is one, and every write will be in it
   */
  async trackWrites(): Promise<boolean> {
    this.#logBase = parseLogBase(await this.#exchange('track\n', () => this.#text()));
    return this.#logBase !== undefined;
  }

  /**
   * Asks what was written since the last call, or since `trackWrites`.
   *
   * @param sizeBytes of the open device
   * @returns what lies in the device, in no order; undefined when the log does not have it all
   */
  async written(sizeBytes: number): Promise<readonly Extent[] | undefined> {
    if (this.#logBase === undefined) return undefined;
    const text = await this.#exchange('changes\n', () => this.#text());
    const extents = parseWritten(text, { baseSector: this.#logBase, sizeBytes });
    if (extents === undefined) this.#logBase = undefined;
    return extents;
  }

  /**
   * Reads ranges of the open device in one go.
   *
   * @returns their bytes, one range after another
   */
  async readRanges(ranges: readonly Extent[], codec: WireCodec): Promise<Buffer> {
    return await unpackPayload(await this.fetchRanges(ranges, codec), totalBytes(ranges));
  }

  /** Reads ranges of the open device in one go, and leaves them as they came. */
  fetchRanges(ranges: readonly Extent[], codec: WireCodec): Promise<WirePayload> {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const lengthBytes = totalBytes(ranges);
    const command = `read ${sequence} ${codec} ${numbersOf(ranges)}\n`;
    return this.#exchange(command, async () => {
      const data = await this.#frame('data');
      if (data.sequence !== sequence || data.lengthBytes !== lengthBytes || data.codec !== codec) {
        throw new IngotError(
          'frame-malformed',
          `the device answered request ${data.sequence} with ${data.lengthBytes} bytes; request ${sequence} is for ${lengthBytes}`,
        );
      }
      const taken = await takeWirePayload(this.#queue, codec, {
        lengthBytes,
        scratch: (roomBytes) => this.#room(roomBytes),
      });
      const done = await this.#frame('done');
      const isWrong =
        done.digest !== undefined &&
        (taken.kind !== 'plain' || hash('sha256', taken.plain, 'hex') !== done.digest);
      if (done.sequence !== sequence || isWrong) {
        throw new IngotError('frame-malformed', `answer ${sequence} does not have its digest`);
      }
      this.#totalBytes += lengthBytes;
      return taken;
    });
  }

  /**
   * Computes a digest of each group of ranges, on the device.
   *
   * @param groups at most {@link MAX_SUM_GROUPS}
   * @returns digests as hex, in the order of the groups
   */
  sumsOf(groups: readonly (readonly Extent[])[], tool: SumTool): Promise<readonly string[]> {
    this.#sequence += 1;
    const sequence = this.#sequence;
    const command = `sums ${sequence} ${tool} ${groups.map(numbersOf).join(' / ')}\n`;
    return this.#exchange(command, async () => {
      const { sequence: answered, digests } = await this.#frame('sums');
      if (answered !== sequence || digests.length !== groups.length) {
        throw new IngotError(
          'frame-malformed',
          `the device answered request ${answered} with ${digests.length} digests; request ${sequence} is for ${groups.length}`,
        );
      }
      return digests;
    });
  }

  /**
   * Freezes, or takes the LVM snapshot. From here on the device thaws by itself when no beat comes.
   *
   * @returns the device to read from now on, where it is another one
   * @throws IngotError `source-frozen`, `freeze-failed`
   */
  async freeze(plan: FreezePlan): Promise<string | undefined> {
    const hold =
      plan.kind === 'lvm'
        ? `hold-lvm ${plan.group} ${plan.volume} ${plan.extents}\n`
        : `hold ${plan.mounts.length}\n${plan.mounts
            .map(({ mountId, mountPoint }) => `${mountId} ${oneLine(mountPoint)}\n`)
            .join('')}`;
    await this.#exchange(hold, () => this.#freezeAnswer('guarded'));
    const frozen = await this.#exchange('go\n', () => this.#freezeAnswer('frozen'));
    return frozen.snapshotDevice;
  }

  /** @throws IngotError `freeze-lost` when the device does not say that it thawed just now */
  async thaw(): Promise<void> {
    try {
      await this.#exchange('thaw\n', () => this.#frame('thawed'));
    } catch (thrown) {
      if (isFailure(thrown, 'freeze-lost')) throw thrown;
      throw new IngotError(
        'freeze-lost',
        `${this.name} did not say that the filesystem was frozen to the end`,
        {},
        { cause: thrown },
      );
    }
  }

  /** Ends the session and makes sure that nothing of it was cut off. */
  async end(): Promise<void> {
    const bye = await this.#exchange('end\n', () => this.#frame('bye'));
    this.#stopBeats.abort();
    if (bye.totalBytes !== this.#totalBytes) {
      throw new IngotError(
        'source-truncated',
        `the device sent ${bye.totalBytes} bytes, ${this.#totalBytes} came`,
      );
    }
    this.#channel.closeInput();
    if ((await this.#queue.next()) !== undefined) {
      throw new IngotError('frame-malformed', 'the device sends bytes after its last frame');
    }
    const { status, signal } = await this.#channel.ended;
    if (status !== 0) {
      throw new IngotError('ssh-failed', `the session ended with ${status ?? signal}`);
    }
  }

  /** Waits for the answers to all requests. @returns whether they came in time */
  async isIdleWithin(timeoutMs: number): Promise<boolean> {
    const answered = new AbortController();
    const late = this.#clock.sleep(timeoutMs, answered.signal).then(
      () => false,
      () => false,
    );
    const isIdle = await Promise.race([this.#lastAnswer.then(() => true), late]);
    answered.abort();
    return isIdle;
  }

  /** Breaks the session off: the device thaws at once, every request fails with `reason`. */
  breakOff(reason: unknown): void {
    this.#failure ??= reason;
    this.#stopBeats.abort();
    this.#channel.closeInput();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopBeats.abort();
    await this.#channel[Symbol.asyncDispose]();
  }

  async #beat(clock: Clock): Promise<void> {
    for (;;) {
      await clock.sleep(BEAT_EVERY_MS, this.#stopBeats.signal);
      this.#channel.write('beat\n');
    }
  }

  #room(roomBytes: number): Buffer {
    if (this.#scratch.length < roomBytes) {
      releaseMemory(this.#scratch);
      this.#scratch = Buffer.allocUnsafeSlow(roomBytes);
    }
    return this.#scratch;
  }

  #exchange<T>(command: string, receive: () => Promise<T>): Promise<T> {
    if (Buffer.byteLength(command) > MAX_COMMAND_BYTES * 8) {
      throw new RangeError(`a command of ${command.length} characters`);
    }
    this.#channel.write(command);
    const answer = this.#lastAnswer.then(async () => {
      try {
        if (this.#failure !== undefined) throw this.#failure;
        return await receive();
      } catch (thrown) {
        this.#failure ??= isRefusal(thrown) ? undefined : await this.#explained(thrown);
        throw this.#failure ?? thrown;
      }
    });
    this.#lastAnswer = answer.catch(() => undefined);
    return answer;
  }

  /** Adds what the device and ssh said to a stream that ended too early. */
  async #explained(thrown: unknown): Promise<unknown> {
    if (!isFailure(thrown, 'source-truncated')) return thrown;
    const { status, signal } = await this.#channel.ended;
    const words = this.#channel.stderrTail().trim();
    return new IngotError(
      'source-truncated',
      `${this.name} went away in the middle of the capture (status ${status ?? signal})${words === '' ? '' : `: ${words}`}`,
      { status: status ?? signal ?? 'none' },
      { cause: thrown },
    );
  }

  async #anyFrame(): Promise<PullFrame> {
    const line = await this.#queue.line(MAX_FRAME_LINE_BYTES);
    const frame = parsePullFrame(line);
    if (frame === undefined) {
      throw new IngotError(
        'frame-malformed',
        `the device sent ${JSON.stringify(line.slice(0, 80))}, which is no frame`,
      );
    }
    return frame;
  }

  async #frame<K extends PullFrame['kind']>(kind: K): Promise<FrameOf<K>> {
    const frame = await this.#anyFrame();
    if (frame.kind === 'not-thawed') throw new IngotError('freeze-lost', frame.text);
    if (!isKind(frame, kind)) {
      throw new IngotError('frame-malformed', `the device sent ${frame.kind}, ${kind} was due`);
    }
    return frame;
  }

  async #freezeAnswer<K extends 'guarded' | 'frozen'>(kind: K): Promise<FrameOf<K>> {
    const frame = await this.#anyFrame();
    if (frame.kind === 'not-frozen') {
      throw new IngotError(
        frame.why === 'busy' ? 'source-frozen' : 'freeze-failed',
        `${this.name} did not freeze: ${frame.text}`,
      );
    }
    if (!isKind(frame, kind)) {
      throw new IngotError('frame-malformed', `the device sent ${frame.kind}, ${kind} was due`);
    }
    return frame;
  }

  async #text(): Promise<string> {
    const { lengthBytes } = await this.#frame('text');
    if (lengthBytes > MAX_TEXT_BYTES) {
      throw new IngotError('frame-malformed', `the device sends a text of ${lengthBytes} bytes`);
    }
    const bytes = await this.#queue.exactly(lengthBytes + 1);
    return bytes.toString('utf8', 0, lengthBytes);
  }
}

function numbersOf(ranges: readonly Extent[]): string {
  return ranges.map(({ offsetBytes, lengthBytes }) => `${offsetBytes} ${lengthBytes}`).join(' ');
}

function isKind<K extends PullFrame['kind']>(frame: PullFrame, kind: K): frame is FrameOf<K> {
  return frame.kind === kind;
}

/** A refusal leaves the session whole; everything else breaks it. */
function isRefusal(thrown: unknown): boolean {
  return isFailure(thrown, 'source-frozen') || isFailure(thrown, 'freeze-failed');
}

function oneLine(path: string): string {
  if (/[\n\r\0]/.test(path) || Buffer.byteLength(path) > MAX_COMMAND_BYTES) {
    throw new IngotError('source-unsupported', `a path with a line end: ${JSON.stringify(path)}`);
  }
  return path;
}
