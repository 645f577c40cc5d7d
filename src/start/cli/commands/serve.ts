import { once } from 'node:events';
import { resolve } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import packageFacts from '../../../../package.json' with { type: 'json' };
import { type DaemonSettings, readDaemonSettings } from '../../settings/daemon-settings.ts';
import { keepLocalProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';

const EXAMPLES = `
Every option is also an environment variable (INGOT_PUBLIC_URL for --public-url) and a name in the
YAML file (public-url). An option wins over the environment, the environment over the file.

Examples:
  ingot serve                                          on this machine alone, in the default directory
  ingot serve --data /srv/images --listen 0.0.0.0:7780 --public-url https://images.example.org
  ingot serve --config /etc/ingot.yaml
`;

/** `ingot serve`: the daemon. */
export function registerServe(program: Command, context: CliContext): void {
  program
    .command('serve')
    .description('run the daemon: the image library and its API')
    .option(
      '--data <dir>',
      'the data directory (/var/lib/ingot as root, ~/.local/share/ingot else)',
    )
    .option('--listen <host:port>', 'where to listen (127.0.0.1:7780); port 0 takes a free one')
    .option('--public-url <url>', 'how others reach it, for absolute URLs')
    .option('--tls-cert <file>', 'PEM certificate chain: speak TLS')
    .option('--tls-key <file>', 'its PEM key')
    .option('--trust-proxy', 'believe X-Forwarded-For of whoever connects')
    .addOption(
      new Option('--engine <name>', 'what codes segments').choices([
        'auto',
        'isal',
        'wasm',
        'zlib',
      ]),
    )
    .addOption(
      new Option('--log-level <level>', 'what is logged').choices([
        'debug',
        'info',
        'warn',
        'error',
      ]),
    )
    .option('--max-upload <size>', 'largest upload or download, as it is sent (1T)')
    .option('--max-image <size>', 'largest disk that one unpacks to (4T)')
    .option('--disk-reserve <size>', 'what uploads leave free of the disk (1G)')
    .option('--upload-expiry <time>', 'when an upload to which nothing comes is given up (24h)')
    .option('--quiet-time <time>', 'how long nobody came before disks are digested (5s)')
    .option('--fetch-private', 'import URLs of private networks and of this machine too')
    .option('--backup-schedule <cron>', 'when the state is copied, or off (0 1 * * *)')
    .option('--gc-schedule <cron>', 'when space is taken back, or off (0 2 * * *)')
    .option('--verify-schedule <cron>', 'when everything is read back, or off (0 3 * * *)')
    .option('--no-profile', 'keep no profile for the local user')
    .option('--config <file>', 'YAML file with settings')
    .addHelpText('after', EXAMPLES)
    .action(async (options) => {
      const settings = readDaemonSettings({
        flags: {
          ...(options.data === undefined ? {} : { data: resolve(options.data) }),
          ...(options.listen === undefined ? {} : { listen: options.listen }),
          ...(options.publicUrl === undefined ? {} : { 'public-url': options.publicUrl }),
          ...(options.tlsCert === undefined ? {} : { 'tls-cert': options.tlsCert }),
          ...(options.tlsKey === undefined ? {} : { 'tls-key': options.tlsKey }),
          ...(options.trustProxy === undefined ? {} : { 'trust-proxy': options.trustProxy }),
          ...(options.engine === undefined ? {} : { engine: options.engine }),
          ...(options.logLevel === undefined ? {} : { 'log-level': options.logLevel }),
          ...(options.maxUpload === undefined ? {} : { 'max-upload': options.maxUpload }),
          ...(options.maxImage === undefined ? {} : { 'max-image': options.maxImage }),
          ...(options.diskReserve === undefined ? {} : { 'disk-reserve': options.diskReserve }),
          ...(options.uploadExpiry === undefined ? {} : { 'upload-expiry': options.uploadExpiry }),
          ...(options.quietTime === undefined ? {} : { 'quiet-time': options.quietTime }),
          ...(options.fetchPrivate === undefined ? {} : { 'fetch-private': true }),
          ...(options.backupSchedule === undefined
            ? {}
            : { 'backup-schedule': options.backupSchedule }),
          ...(options.gcSchedule === undefined ? {} : { 'gc-schedule': options.gcSchedule }),
          ...(options.verifySchedule === undefined
            ? {}
            : { 'verify-schedule': options.verifySchedule }),
          ...(options.profile ? {} : { 'keep-profile': false }),
        },
        env: context.env,
        configFile: options.config,
        isRoot: process.getuid?.() === 0,
      });
      await serve(context, settings);
    });
}

async function serve(context: CliContext, settings: DaemonSettings): Promise<void> {
  // Other commands must start fast: the server and the store are read when they are needed.
  const { startDaemon } = await import('../../daemon/daemon.ts');
  await using daemon = await startDaemon(settings, {
    version: packageFacts.version,
    logTarget: context.stderr,
  });
  if (settings.writeProfile) {
    const name = keepLocalProfile(context.env, {
      url: daemon.url,
      client: daemon.localClient.client,
      secret: daemon.localClient.secret,
      data: settings.dataDirectory,
      // A certificate that the machine signed itself is trusted by the machine itself.
      ...(settings.tls === undefined ? {} : { ca: settings.tls.certPath }),
    });
    context.stderr.write(`Profile ${name} reaches this daemon: ingot images list\n`);
  }
  context.stdout.write(`${daemon.url}\n`);
  if (!context.signal.aborted) await once(context.signal, 'abort');
  context.endedAsAsked();
}
