import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { cronSchedules } from '../daemon/cron-schedules.ts';
import { readDaemonSettings, type SettingSources } from './daemon-settings.ts';
import {
  chooseProfile,
  keepLocalProfile,
  profilesPath,
  readProfiles,
  writeProfiles,
} from './profiles.ts';

const folder = mkdtempSync(join(tmpdir(), 'ingot-settings-'));
after(() => rmSync(folder, { recursive: true }));

const read = (sources: Partial<SettingSources>): ReturnType<typeof readDaemonSettings> =>
  readDaemonSettings({ flags: {}, env: {}, configFile: undefined, isRoot: false, ...sources });

let files = 0;
function yaml(text: string): string {
  files += 1;
  const path = join(folder, `${files}.yaml`);
  writeFileSync(path, text);
  return path;
}

describe("the daemon's settings", () => {
  test('a flag wins over the environment, that over the file, that over what is built in', () => {
    const configFile = yaml('data: /from/file\nlisten: 10.0.0.1:1\nlog-level: warn\n');
    const env = { INGOT_LISTEN: '10.0.0.2:2', INGOT_DATA: '/from/env', INGOT_LOG_LEVEL: '' };
    const settings = read({ configFile, env, flags: { data: '/from/flag' } });
    assert.equal(settings.dataDirectory, '/from/flag');
    assert.deepEqual(settings.listen, { host: '10.0.0.2', port: 2 });
    assert.equal(settings.logLevel, 'warn');
    assert.equal(settings.engine, 'auto');
    assert.equal(settings.trustProxy, false);
    assert.equal(settings.writeProfile, true);
    assert.equal(read({ env: { INGOT_KEEP_PROFILE: 'no' } }).writeProfile, false);
    assert.equal(read({ env: { INGOT_PROFILE: 'office' } }).writeProfile, true);
  });

  test('without any setting it listens on this machine alone', () => {
    const settings = read({ env: { HOME: '/home/ann' } });
    assert.deepEqual(settings.listen, { host: '127.0.0.1', port: 7780 });
    assert.equal(settings.dataDirectory, '/home/ann/.local/share/ingot');
    assert.equal(read({ isRoot: true }).dataDirectory, '/var/lib/ingot');
    assert.equal(read({ env: { XDG_DATA_HOME: '/data' } }).dataDirectory, '/data/ingot');
  });

  test('addresses are read with IPv6, with every interface and with a port alone', () => {
    const listen = (text: string): unknown => read({ flags: { listen: text } }).listen;
    assert.deepEqual(listen('[::1]:80'), { host: '::1', port: 80 });
    assert.deepEqual(listen('*:80'), { host: '::', port: 80 });
    assert.deepEqual(listen(':80'), { host: '::', port: 80 });
  });

  test('sizes, times and schedules are read, and what is no such thing is refused', () => {
    const env = { INGOT_MAX_UPLOAD: '1.5G', INGOT_UPLOAD_EXPIRY: '2h', INGOT_GC_SCHEDULE: 'off' };
    const settings = read({
      env,
      flags: { 'verify-schedule': '30 4 * * 6', 'disk-reserve': '512' },
    });
    assert.equal(settings.imports.maxUploadBytes, 1.5 * 1024 ** 3);
    assert.equal(settings.imports.uploadExpiryMs, 7_200_000);
    assert.equal(settings.imports.diskReserveBytes, 512);
    assert.deepEqual(settings.schedules, {
      backup: '0 1 * * *',
      collect: undefined,
      verify: '30 4 * * 6',
    });
    for (const flags of [{ 'max-image': 'large' }, { 'gc-schedule': 'daily at noon' }]) {
      assert.throws(
        () => read({ flags }),
        (thrown) => isFailure(thrown, 'settings-invalid'),
      );
    }
    const [backup, verify] = cronSchedules(settings.schedules);
    const night = new Date(2026, 0, 3, 4, 30).getTime();
    assert.equal(verify?.nextAfter(new Date(2026, 0, 1).getTime()), night);
    assert.equal(backup?.nextAfter(night), new Date(2026, 0, 4, 1).getTime());
  });

  test('what is wrong is named, whatever it came from', () => {
    const wrong: [Partial<SettingSources>, RegExp][] = [
      [{ flags: { listen: '127.0.0.1' } }, /listen: 127\.0\.0\.1 is not HOST:PORT/],
      [{ flags: { listen: 'a:70000' } }, /HOST:PORT/],
      [{ env: { INGOT_PUBLIC_URL: 'ftp://x' } }, /public-url/],
      [{ env: { INGOT_TRUST_PROXY: 'maybe' } }, /trust-proxy/],
      [{ configFile: yaml('lissen: x\n') }, /lissen/],
      [{ configFile: yaml('- a\n') }, /no mapping/],
      [{ configFile: yaml('a: [\n') }, /no YAML/],
      [{ configFile: join(folder, 'absent') }, /ENOENT/],
      [{ flags: { 'tls-cert': '/x' } }, /belong together/],
    ];
    for (const [sources, message] of wrong) {
      assert.throws(
        () => read(sources),
        (thrown) => isFailure(thrown, 'settings-invalid') && message.test(thrown.message),
        String(message),
      );
    }
  });
});

describe('profiles', () => {
  const env = { XDG_CONFIG_HOME: folder };
  const profile = { url: 'http://127.0.0.1:7780', client: 'cli-aaaaa', secret: 's3cret' };

  test('are kept where only their user reads them, and nothing else stays behind', () => {
    writeProfiles(env, { default: 'a', profiles: { a: profile } });
    assert.equal(statSync(profilesPath(env)).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(join(folder, 'ingot')), ['profiles.yaml']);
    assert.deepEqual(readProfiles(env), { default: 'a', profiles: { a: profile } });
  });

  test('the environment wins, then the name, then the default, then the only one', () => {
    const b = { ...profile, client: 'cli-bbbbb' };
    writeProfiles(env, { default: 'a', profiles: { a: profile, b } });
    assert.equal(chooseProfile(env, undefined).client, 'cli-aaaaa');
    assert.equal(chooseProfile(env, 'b').client, 'cli-bbbbb');
    assert.equal(chooseProfile({ ...env, INGOT_PROFILE: 'b' }, undefined).client, 'cli-bbbbb');
    const own = { INGOT_URL: 'https://h', INGOT_CLIENT: 'cli-ccccc', INGOT_SECRET: 'x' };
    assert.equal(chooseProfile({ ...env, ...own }, 'b').client, 'cli-ccccc');
    writeProfiles(env, { profiles: { b } });
    assert.equal(chooseProfile(env, undefined).client, 'cli-bbbbb');
    assert.throws(
      () => chooseProfile(env, 'c'),
      (thrown) => isFailure(thrown, 'profile-missing'),
    );
  });

  test("the local daemon's profile follows its port and never takes another's place", () => {
    writeProfiles(env, { profiles: {} });
    const local = { ...profile, data: '/var/lib/ingot' };
    assert.equal(keepLocalProfile(env, local), 'local');
    assert.equal(readProfiles(env).default, 'local');
    assert.equal(keepLocalProfile(env, { ...local, url: 'http://127.0.0.1:9' }), 'local');
    assert.equal(readProfiles(env).profiles['local']?.url, 'http://127.0.0.1:9');
    keepLocalProfile(env, { ...local, ca: '/etc/ingot/cert.pem' });
    assert.equal(chooseProfile(env, 'local').ca, '/etc/ingot/cert.pem');
    assert.equal(keepLocalProfile(env, { ...local, data: '/srv/other' }), 'local-2');
    assert.equal(readProfiles(env).default, 'local');
    const before = readFileSync(profilesPath(env), 'utf8');
    keepLocalProfile(env, { ...local, data: '/srv/other' });
    assert.equal(readFileSync(profilesPath(env), 'utf8'), before);
  });
});
