import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { isPublicAddress } from './public-address.ts';

describe('an address', () => {
  for (const address of [
    ...['127.0.0.1', '127.9.9.9', '0.0.0.0', '10.1.2.3', '172.16.0.1', '172.31.255.255'],
    ...['192.168.1.1', '169.254.169.254', '100.64.0.1', '100.100.100.200', '192.0.0.192'],
    ...['224.0.0.1', '255.255.255.255', '198.18.0.1', '203.0.113.5', '::', '::1', 'fe80::1'],
    ...['fe80::1%eth0', 'fc00::1', 'fd00:ec2::254', 'ff02::1', '::ffff:127.0.0.1'],
    ...['::ffff:8.8.8.8', '::127.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::', '2001::1'],
    ...['2001:db8::1', 'localhost', '', '0x7f.1', '2130706433', '127.1'],
  ]) {
    test(`is not public: ${address || 'nothing'}`, () => {
      assert.equal(isPublicAddress(address), false);
    });
  }
  for (const address of ['8.8.8.8', '172.32.0.1', '100.128.0.1', '2606:4700::1111', '2a00::1']) {
    test(`is public: ${address}`, () => {
      assert.equal(isPublicAddress(address), true);
    });
  }
});
