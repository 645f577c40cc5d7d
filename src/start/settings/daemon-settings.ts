import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Cron } from 'croner';
import { parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { errnoOf, GIB, IngotError, parseDuration, parseSize } from '../../base/index.ts';
import { defaultDataDirectory, type Env } from './data-directory.ts';

/** Where the daemon listens: a host and a TCP port (0 lets the system choose one). */
export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

const DEFAULT_LISTEN = '127.0.0.1:7780';
const MAX_SETTINGS_FILE_BYTES = 1024 * 1024;

const listenAddress = z.string().transform((text, context): ListenAddress => {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65535) {
    context.addIssue({ code: 'custom', message: `${text} is not HOST:PORT` });
    return z.NEVER;
  }
  const host = match[1] ?? match[2] ?? '';
  return { host: host === '' || host === '*' ? '::' : host, port };
});

const publicUrl = z.string().transform((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.username !== '') {
    context.addIssue({ code: 'custom', message: `${text} is not an http or https URL` });
    return z.NEVER;
  }
  return url.href.replace(/\/+$/, '');
});

const yesOrNo = z.union([
  z.boolean(),
  z
    .enum(['true', 'false', 'yes', 'no', '1', '0'])
    .transform((t) => ['true', 'yes', '1'].includes(t)),
]);

/** What uploads and imports may take. */
export interface ImportSettings {
  /** Bytes of one upload, as they are sent. */
  readonly maxUploadBytes: number;
  /** Size of the disk that an upload unpacks to. */
  readonly maxImageBytes: number;
  /** Bytes of the data directory's disk that uploads leave free. */
  readonly diskReserveBytes: number;
  /** An upload to which nothing is added for so long is given up. */
  readonly uploadExpiryMs: number;
  /** Whether images may be fetched from addresses that are not public. */
  readonly mayFetchPrivate: boolean;
}

/** What holds where nothing else is said. */
export const IMPORT_DEFAULTS: ImportSettings = {
  maxUploadBytes: 1024 * GIB,
  maxImageBytes: 4096 * GIB,
  diskReserveBytes: GIB,
  uploadExpiryMs: 24 * 3_600_000,
  mayFetchPrivate: false,
};

const size = z
  .union([z.string(), z.number()])
  .transform((given, context) =>
    numberOr(context, parseSize(String(given)), `${given} is no size`),
  );

const duration = z
  .union([z.string(), z.number()])
  .transform((given, context) =>
    numberOr(context, parseDuration(String(given)), `${given} is no duration`),
  );

const cronPattern = z.string().transform((text, context) => {
  if (text === 'off') return text;
  try {
    new Cron(text, { paused: true }).stop();
    return text;
  } catch {
    context.addIssue({ code: 'custom', message: `${text} is neither off nor a pattern of cron` });
    return z.NEVER;
  }
});

function patternOf(setting: string): string | undefined {
  return setting === 'off' ? undefined : setting;
}

function numberOr(context: z.RefinementCtx, value: number | undefined, message: string): number {
  if (value !== undefined) return value;
  context.addIssue({ code: 'custom', message });
  return z.NEVER;
}

/**
 * Every setting of the daemon under its name on the command line without the dashes. The same names
 * stand in the YAML file; the environment has them as `INGOT_PUBLIC_URL` and so on.
 */
const daemonSettingsShape = {
  data: z.string().min(1).optional(),
  listen: listenAddress.prefault(DEFAULT_LISTEN),
  'public-url': publicUrl.optional(),
  'tls-cert': z.string().min(1).optional(),
  'tls-key': z.string().min(1).optional(),
  'trust-proxy': yesOrNo.default(false),
  'log-level': z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  engine: z.enum(['auto', 'isal', 'wasm', 'zlib']).default('auto'),
  // Not `profile`: INGOT_PROFILE is the name of the one that commands use.
  'keep-profile': yesOrNo.default(true),
  'max-upload': size.default(IMPORT_DEFAULTS.maxUploadBytes),
  'max-image': size.default(IMPORT_DEFAULTS.maxImageBytes),
  'disk-reserve': size.default(IMPORT_DEFAULTS.diskReserveBytes),
  'fetch-private': yesOrNo.default(IMPORT_DEFAULTS.mayFetchPrivate),
  'backup-schedule': cronPattern.default('0 1 * * *'),
  'gc-schedule': cronPattern.default('0 2 * * *'),
  'verify-schedule': cronPattern.default('0 3 * * *'),
  'upload-expiry': duration.default(IMPORT_DEFAULTS.uploadExpiryMs),
  'quiet-time': duration.default(5000),
} as const;

type SettingName = keyof typeof daemonSettingsShape;

/** Names of all settings of the daemon. */
const DAEMON_SETTINGS = Object.keys(daemonSettingsShape) as SettingName[];

/** What the daemon was told to do, complete and checked. */
export interface DaemonSettings {
  readonly dataDirectory: string;
  readonly listen: ListenAddress;
  /** Base of absolute URLs, without a slash at its end; they are never built from `Host`. */
  readonly publicUrl: string | undefined;
  /** PEM texts, where the daemon speaks TLS itself. */
  readonly tls:
    | { readonly cert: string; readonly key: string; readonly certPath: string }
    | undefined;
  readonly trustProxy: boolean;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  /** Which engine codes segments; `auto` takes the fastest that passes its self-test. */
  readonly engine: 'auto' | 'isal' | 'wasm' | 'zlib';
  /** Whether a profile for the local user is kept up to date. */
  readonly writeProfile: boolean;
  readonly imports: ImportSettings;
  /** How long nobody must have read or delivered before work that can wait begins. */
  readonly quietMs: number;
  /** Patterns of cron for work of the whole library; undefined: off. */
  readonly schedules: Readonly<Record<'backup' | 'collect' | 'verify', string | undefined>>;
}

/** Where settings come from. */
export interface SettingSources {
  /** Options of the command line that were given, by setting name. */
  readonly flags: Readonly<Partial<Record<SettingName, string | boolean>>>;
  readonly env: Env;
  /** `--config`; `INGOT_CONFIG` is looked at when it is undefined. */
  readonly configFile: string | undefined;
  readonly isRoot: boolean;
}

/** The environment variable that holds a setting: `public-url` is `INGOT_PUBLIC_URL`. */
function settingVariable(name: string): string {
  return `INGOT_${name.toUpperCase().replaceAll('-', '_')}`;
}

/**
 * Reads the daemon's settings. A flag wins over the environment, the environment over the YAML
 * file, the file over what is built in.
 *
 * @throws IngotError `settings-invalid` with the names that are wrong and where they came from
 * @see docs/operations.md
 */
export function readDaemonSettings(sources: SettingSources): DaemonSettings {
  const raw: Record<string, unknown> = { ...readSettingsFile(sources) };
  for (const name of DAEMON_SETTINGS) {
    const fromEnv = sources.env[settingVariable(name)];
    if (fromEnv !== undefined && fromEnv !== '') raw[name] = fromEnv;
    const fromFlag = sources.flags[name];
    if (fromFlag !== undefined) raw[name] = fromFlag;
  }
  const parsed = z.strictObject(daemonSettingsShape).safeParse(raw);
  if (!parsed.success) {
    throw new IngotError('settings-invalid', `settings: ${issuesText(parsed.error)}`);
  }
  const values = parsed.data;
  return {
    dataDirectory: resolve(values.data ?? defaultDataDirectory(sources.env, sources.isRoot)),
    listen: values.listen,
    publicUrl: values['public-url'],
    tls: readTls(values['tls-cert'], values['tls-key']),
    trustProxy: values['trust-proxy'],
    logLevel: values['log-level'],
    engine: values.engine,
    writeProfile: values['keep-profile'],
    schedules: {
      backup: patternOf(values['backup-schedule']),
      collect: patternOf(values['gc-schedule']),
      verify: patternOf(values['verify-schedule']),
    },
    quietMs: values['quiet-time'],
    imports: {
      maxUploadBytes: values['max-upload'],
      maxImageBytes: values['max-image'],
      diskReserveBytes: values['disk-reserve'],
      uploadExpiryMs: values['upload-expiry'],
      mayFetchPrivate: values['fetch-private'],
    },
  };
}

/** Joins what zod found wrong into one line. */
export function issuesText(error: z.ZodError): string {
  return error.issues
    .map((issue) => (issue.path.length > 0 ? `${issue.path.join('.')}: ` : '') + issue.message)
    .join('; ');
}

function readSettingsFile({ configFile, env }: SettingSources): Record<string, unknown> {
  const path = configFile ?? env['INGOT_CONFIG'];
  if (path === undefined || path === '') return {};
  const text = readSmallFile(path);
  let content: unknown;
  try {
    content = parseYaml(text);
  } catch (cause) {
    throw new IngotError('settings-invalid', `${path} is no YAML`, { path }, { cause });
  }
  if (content === null || content === undefined) return {};
  if (typeof content !== 'object' || Array.isArray(content)) {
    throw new IngotError('settings-invalid', `${path} holds no mapping of names to values`, {
      path,
    });
  }
  return { ...content };
}

function readSmallFile(path: string): string {
  try {
    const text = readFileSync(path, 'utf8');
    if (text.length <= MAX_SETTINGS_FILE_BYTES) return text;
  } catch (cause) {
    const errno = errnoOf(cause) ?? 'unknown';
    throw new IngotError(
      'settings-invalid',
      `${path} is unreadable: ${errno}`,
      { path },
      { cause },
    );
  }
  throw new IngotError('settings-invalid', `${path} is above ${MAX_SETTINGS_FILE_BYTES} bytes`, {
    path,
  });
}

function readTls(cert: string | undefined, key: string | undefined): DaemonSettings['tls'] {
  if (cert === undefined && key === undefined) return undefined;
  if (cert === undefined || key === undefined) {
    throw new IngotError('settings-invalid', 'tls-cert and tls-key belong together');
  }
  return { cert: readSmallFile(cert), key: readSmallFile(key), certPath: resolve(cert) };
}
