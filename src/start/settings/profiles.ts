import { randomUUID } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { stringify as formatYaml, parse as parseYaml } from 'yaml';
import { z } from 'zod';
import { errnoOf, IngotError } from '../../base/index.ts';
import { issuesText } from './daemon-settings.ts';
import { configDirectory, type Env } from './data-directory.ts';

const profileSchema = z.strictObject({
  url: z.url({ protocol: /^https?$/ }),
  client: z.string().min(1),
  secret: z.string().min(1),
  /** The data directory of the daemon that wrote the profile for its own user. */
  data: z.string().optional(),
  /** PEM file of an authority to trust beside the system's, for daemons with their own certificate. */
  ca: z.string().optional(),
});

/** How to reach a daemon, and as whom. */
export type Profile = z.infer<typeof profileSchema>;

const profilesSchema = z.strictObject({
  default: z.string().optional(),
  profiles: z.record(z.string(), profileSchema).default({}),
});

/** The content of `profiles.yaml`. */
export type Profiles = z.infer<typeof profilesSchema>;

/** Names the file that holds the user's profiles. */
export function profilesPath(env: Env): string {
  return join(configDirectory(env), 'profiles.yaml');
}

/**
 * Reads the user's profiles; none when there is no file.
 *
 * @throws IngotError `settings-invalid`
 */
export function readProfiles(env: Env): Profiles {
  const path = profilesPath(env);
  let content: unknown;
  try {
    content = parseYaml(readFileSync(path, 'utf8'));
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return { profiles: {} };
    throw new IngotError('settings-invalid', `${path} cannot be read`, { path }, { cause });
  }
  const parsed = profilesSchema.safeParse(content ?? {});
  if (parsed.success) return parsed.data;
  throw new IngotError('settings-invalid', `${path}: ${issuesText(parsed.error)}`, { path });
}

/** Writes the user's profiles with mode 0600; a reader sees the old file or the new one. */
export function writeProfiles(env: Env, profiles: Profiles): void {
  const path = profilesPath(env);
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomUUID()}`;
  try {
    const file = openSync(temporary, 'wx', 0o600);
    try {
      writeSync(file, formatYaml(profiles));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new IngotError('settings-invalid', `${path} cannot be written`, { path }, { cause });
  }
  chmodSync(path, 0o600);
}

/**
 * Chooses the profile that a command uses: `INGOT_URL`, `INGOT_CLIENT` and `INGOT_SECRET` together,
 * else the one that `--profile` or `INGOT_PROFILE` names, else the default, else the only one.
 *
 * @throws IngotError `profile-missing`
 */
export function chooseProfile(env: Env, name: string | undefined): Profile {
  const { INGOT_URL: url, INGOT_CLIENT: client, INGOT_SECRET: secret, INGOT_CA: ca } = env;
  if (url !== undefined && client !== undefined && secret !== undefined) {
    const parsed = profileSchema.safeParse({ url, client, secret, ca });
    if (parsed.success) return parsed.data;
    throw new IngotError('settings-invalid', `environment: ${issuesText(parsed.error)}`);
  }
  const { default: standard, profiles } = readProfiles(env);
  const names = Object.keys(profiles);
  const wanted =
    name ?? env['INGOT_PROFILE'] ?? standard ?? (names.length === 1 ? names[0] : undefined);
  const profile = wanted === undefined ? undefined : profiles[wanted];
  if (profile !== undefined) return profile;
  const path = profilesPath(env);
  throw new IngotError(
    'profile-missing',
    wanted === undefined
      ? `${path} has no default profile; ingot login makes one, ingot serve makes one for its user`
      : `${path} has no profile named ${wanted}`,
    { path },
  );
}

/**
 * Keeps the profile by which the daemon's own user reaches it. Another data directory's profile is
 * never overwritten: the new one gets a name of its own.
 *
 * @returns the profile's name
 */
export function keepLocalProfile(env: Env, profile: Profile & { readonly data: string }): string {
  const current = readProfiles(env);
  const own = Object.entries(current.profiles).find(
    ([, known]) => known.data === profile.data,
  )?.[0];
  const name = own ?? freeName(current.profiles);
  const known = current.profiles[name];
  const isSame =
    known?.url === profile.url &&
    known.client === profile.client &&
    known.secret === profile.secret &&
    (profile.ca === undefined || known.ca === profile.ca);
  if (!isSame || current.default === undefined) {
    writeProfiles(env, {
      default: current.default ?? name,
      profiles: { ...current.profiles, [name]: { ...known, ...profile } },
    });
  }
  return name;
}

function freeName(profiles: Profiles['profiles']): string {
  for (let n = 1; ; n++) {
    const name = n === 1 ? 'local' : `local-${n}`;
    if (profiles[name] === undefined) return name;
  }
}
