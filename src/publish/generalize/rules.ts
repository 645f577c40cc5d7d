/** What one kind of trace of a single machine is, and what is done about it. */
export interface GeneralizeRule {
  /** Name for people and for `--keep`. */
  readonly name: string;
  /** Why a clone must not have it. */
  readonly reason: string;
  /**
   * Files that are removed; with `/**` at the end all that lies below, directories too. `*` stands
   * for any text inside one name.
   */
  readonly remove?: readonly string[];
  /** Files that stay, without content; with `/**` at the end all files below. */
  readonly empty?: readonly string[];
}

/** Home directories: of root and of everybody. */
const inHomes = (...names: readonly string[]): string[] =>
  names.flatMap((name) => [`/root/${name}`, `/home/*/${name}`]);

/** All rules; the first that matches a file is the one that counts. */
export const GENERALIZE_RULES: readonly GeneralizeRule[] = [
  {
    name: 'machine-id',
    reason: 'systemd, DHCP clients and journals take machines with one id for one machine',
    // systemd makes a new one where the file is there and empty: machine-id(5).
    empty: ['/etc/machine-id'],
    remove: ['/var/lib/dbus/machine-id', '/var/lib/systemd/credential.secret'],
  },
  {
    name: 'ssh-host-keys',
    reason: 'who has the key of one machine can pose as all of its clones',
    remove: ['/etc/ssh/ssh_host_*', '/etc/dropbear/dropbear_*_host_key'],
  },
  {
    name: 'random-seed',
    reason: 'machines that start from one seed may draw the same numbers',
    remove: [
      '/var/lib/systemd/random-seed',
      '/var/lib/urandom/random-seed',
      '/var/lib/random-seed',
      '/var/lib/seedrng/**',
    ],
  },
  {
    name: 'cloud-init',
    reason: 'cloud-init sets nothing up on what it takes for a machine that it knows',
    remove: ['/var/lib/cloud/**'],
  },
  {
    name: 'device-identity',
    reason: 'an update server knows a device by its key',
    remove: [
      '/var/lib/mender/mender-agent.pem',
      '/var/lib/mender/mender-store*',
      '/data/mender/mender-agent.pem',
      '/data/mender/mender-store*',
    ],
  },
  {
    name: 'leases',
    reason: 'a clone would ask for the address of the machine that it was made from',
    remove: [
      '/var/lib/dhcp/*.lease*',
      '/var/lib/dhclient/*.lease*',
      '/var/lib/dhcpcd/**',
      '/var/lib/dhcpcd5/**',
      '/var/lib/NetworkManager/*.lease',
      '/var/lib/NetworkManager/secret_key',
      '/var/lib/NetworkManager/seen-bssids',
      '/var/lib/NetworkManager/timestamps',
      '/etc/udev/rules.d/70-persistent-net.rules',
    ],
  },
  {
    name: 'histories',
    reason: 'what was typed on one machine may hold passwords',
    remove: inHomes(
      '.*_history',
      '.history',
      '.lesshst',
      '.viminfo',
      '.wget-hsts',
      '.local/share/recently-used.xbel',
    ),
  },
  {
    name: 'logs',
    reason: 'they tell about another machine',
    remove: [
      '/var/log/journal/**',
      '/var/log/*.gz',
      '/var/log/*.xz',
      '/var/log/*.bz2',
      '/var/log/*.zst',
      '/var/log/*.1',
      '/var/log/*.old',
    ],
    empty: ['/var/log/**'],
  },
  {
    name: 'temporary-files',
    reason: 'they belong to programs that do not run on the clone',
    remove: ['/tmp/**', '/var/tmp/**'],
  },
];
