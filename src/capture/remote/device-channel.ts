/** How a channel ended: an exit status, or a signal's name. */
export interface ChannelEnd {
  readonly status: number | undefined;
  readonly signal: string | undefined;
}

/**
 * Two pipes to a shell on a device, and what it says on stderr.
 *
 * Disposing closes the device's stdin (which thaws whatever is frozen there), gives the shell a
 * moment to end, and then ends the connection.
 */
export interface DeviceChannel extends AsyncDisposable {
  /** What the device is called in messages: `root@device`. */
  readonly name: string;
  /**
   * What the device writes, in pieces of any size.
   *
   * @throws IngotError `ssh-failed` when nothing comes for too long
   */
  readonly output: AsyncIterator<Buffer, undefined>;
  /** Sends bytes; what cannot be sent yet waits. Does nothing once the channel has ended. */
  write(bytes: string): void;
  /** The last of what came on stderr, up to 4 KiB. */
  stderrTail(): string;
  /** How often `text` came on stderr so far. */
  timesOnStderr(text: string): number;
  /** Resolves when new text came on stderr, or the channel ended. */
  stderrChanged(): Promise<void>;
  /** Ends the device's stdin at once; the shell there then thaws and ends. */
  closeInput(): void;
  /** Settles when the connection is over; never rejects. */
  readonly ended: Promise<ChannelEnd>;
}
