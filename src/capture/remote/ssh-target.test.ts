import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { parseSshTarget } from './ssh-target.ts';

test('user, host, port and addresses are taken apart as ssh wants them', () => {
  const cases = {
    'ssh://device': ['device', undefined],
    'ssh://pi@device': ['pi@device', undefined],
    'ssh://pi@device:2222': ['pi@device', 2222],
    'ssh://device:22/': ['device', 22],
    'ssh://10.0.0.7:22': ['10.0.0.7', 22],
    'ssh://[::1]': ['::1', undefined],
    'ssh://pi@[fe80::1%eth0]:22': ['pi@fe80::1%eth0', 22],
  } as const;
  for (const [url, [destination, port]] of Object.entries(cases)) {
    assert.deepEqual(parseSshTarget(url), { destination, port, name: url });
  }
});

test('what ssh would take for an option, or nobody for an address, is refused', () => {
  const urls = [
    'device',
    'http://device',
    'ssh://',
    'ssh://-oProxyCommand=x',
    'ssh://-l@device',
    'ssh://device:0',
    'ssh://device:65536',
    'ssh://device:22:22',
    'ssh://device/etc',
    'ssh://a@b@c',
    'ssh://[device]',
  ];
  for (const url of urls) {
    assert.throws(
      () => parseSshTarget(url),
      (thrown) => isFailure(thrown, 'request-invalid'),
      url,
    );
  }
});
