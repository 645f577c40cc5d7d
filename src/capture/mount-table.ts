/** One row of `/proc/self/mountinfo`. */
export interface MountEntry {
  readonly mountId: number;
  /** `major:minor` of the mounted filesystem: its identity, also for btrfs subvolumes. */
  readonly device: string;
  /** Path inside the filesystem that is mounted here; `/` for all of it. */
  readonly root: string;
  readonly mountPoint: string;
  readonly filesystem: string;
  /** What was mounted, as the kernel tells it: `/dev/sda1`, `overlay`, … */
  readonly source: string;
  readonly superOptions: string;
}

/**
 * Decodes the octal escapes of mount tables (blank, tab, newline, backslash, `#`).
 *
 * The escapes stand for bytes, so a name in UTF-8 is put together from its bytes.
 *
 * @see proc_pid_mountinfo(5)
 */
function unescapeMountField(text: string): string {
  if (!text.includes('\\')) return text;
  const bytes: number[] = [];
  const coded = Buffer.from(text, 'utf8');
  for (let i = 0; i < coded.length; i += 1) {
    const digits = coded.toString('latin1', i + 1, i + 4);
    if (coded[i] === 0x5c && /^[0-3][0-7]{2}$/.test(digits)) {
      bytes.push(Number.parseInt(digits, 8));
      i += 3;
    } else {
      bytes.push(coded[i] ?? 0);
    }
  }
  return Buffer.from(bytes).toString('utf8');
}

/**
 * Parses `/proc/self/mountinfo`. Rows that break its form are left out.
 *
 * @see proc_pid_mountinfo(5): `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`
 */
export function parseMountInfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const [id, , device, root, mountPoint] = fields;
    const [filesystem, source, superOptions] = dash < 0 ? [] : fields.slice(dash + 1);
    if (!id || !device || !root || !mountPoint || !filesystem || source === undefined) continue;
    entries.push({
      mountId: Number(id),
      device,
      root: unescapeMountField(root),
      mountPoint: unescapeMountField(mountPoint),
      filesystem,
      source: unescapeMountField(source),
      superOptions: unescapeMountField(superOptions ?? ''),
    });
  }
  return entries;
}

/**
 * Splits a `dev_t` as `stat` gives it into `major:minor`.
 *
 * @see makedev(3); glibc's 64-bit encoding
 */
export function formatDeviceNumber(dev: bigint): string {
  const major = ((dev >> 8n) & 0xfffn) | ((dev >> 32n) & 0xfffff000n);
  const minor = (dev & 0xffn) | ((dev >> 12n) & 0xffffff00n);
  return `${major}:${minor}`;
}

/** @returns the value of one mount option (`upperdir=/x`), with its escaped characters decoded */
export function mountOption(options: string, name: string): string | undefined {
  // Overlay escapes a comma or colon inside a folder's name with a backslash.
  for (const option of options.split(/(?<!\\),/)) {
    if (option.startsWith(`${name}=`))
      return option.slice(name.length + 1).replaceAll(/\\(.)/g, '$1');
  }
  return undefined;
}
