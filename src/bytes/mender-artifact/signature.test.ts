import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import {
  isSignatureOf,
  readSigningKey,
  readVerificationKey,
  signatureFileBytes,
  signatureFileOf,
  signManifest,
} from './signature.ts';

const manifest = Buffer.from('a manifest');
const ec = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const pemOf = (key: typeof ec.privateKey, type: 'pkcs1' | 'pkcs8' | 'sec1'): string =>
  key.export({ type: type as 'pkcs8', format: 'pem' }).toString();
const publicPem = (key: typeof ec.privateKey): string =>
  createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();

describe('signatures of manifests', () => {
  test('are right for every form of key that openssl writes', () => {
    // What `openssl ecparam -genkey` writes without -noout.
    const parameters =
      '-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n';
    const forms: [string, typeof ec.privateKey][] = [
      [pemOf(rsa.privateKey, 'pkcs1'), rsa.privateKey],
      [pemOf(rsa.privateKey, 'pkcs8'), rsa.privateKey],
      [pemOf(ec.privateKey, 'sec1'), ec.privateKey],
      [pemOf(ec.privateKey, 'pkcs8'), ec.privateKey],
      [parameters + pemOf(ec.privateKey, 'sec1'), ec.privateKey],
    ];
    for (const [pem, key] of forms) {
      const signing = readSigningKey(pem, 'a key');
      const signatureFile = signManifest(manifest, signing);
      assert.equal(signatureFile.length, signatureFileBytes(signing));
      assert.doesNotMatch(signatureFile.toString(), /\n/);
      const verifying = readVerificationKey(publicPem(key), 'a key');
      assert.ok(isSignatureOf(verifying, { manifest, signatureFile }));
      const other = Buffer.from('another manifest');
      assert.ok(!isSignatureOf(verifying, { manifest: other, signatureFile }));
    }
  });

  test('of a device in DER become r and s, whatever their leading bytes are', () => {
    const key = readVerificationKey(publicPem(ec.privateKey), 'a key');
    // Short and long integers turn up in a few hundred signatures.
    for (let i = 0; i < 300; i++) {
      const message = Buffer.from(`manifest ${i}`);
      const der = sign('sha256', message, ec.privateKey);
      const signatureFile = signatureFileOf('ecdsa-p256', der);
      assert.equal(signatureFile.length, 88);
      assert.ok(isSignatureOf(key, { manifest: message, signatureFile }));
      // Readers take DER too, as other tools write it.
      const derFile = Buffer.from(der.toString('base64'));
      assert.ok(isSignatureOf(key, { manifest: message, signatureFile: derFile }));
    }
  });

  test('that are none are wrong, and never a crash', () => {
    const key = readVerificationKey(publicPem(ec.privateKey), 'a key');
    for (const text of ['', 'x', '====', 'AAAA', 'A'.repeat(88), '\u0000'.repeat(64)]) {
      assert.ok(!isSignatureOf(key, { manifest, signatureFile: Buffer.from(text) }), text);
    }
    for (const der of ['', '30', '3006020101020101ff', '30440220', '02010102']) {
      assert.throws(
        () => signatureFileOf('ecdsa-p256', Buffer.from(der, 'hex')),
        (thrown) => isFailure(thrown, 'signature-invalid'),
        der,
      );
    }
  });

  test('are not made with keys that Mender does not take', () => {
    const others = [
      generateKeyPairSync('ec', { namedCurve: 'secp384r1' }).privateKey,
      generateKeyPairSync('ed25519').privateKey,
    ];
    for (const key of others) {
      const pem = pemOf(key, 'pkcs8');
      assert.throws(
        () => readSigningKey(pem, 'k'),
        (e) => isFailure(e, 'key-unusable'),
      );
    }
    for (const text of ['', 'no key', publicPem(rsa.privateKey)]) {
      assert.throws(
        () => readSigningKey(text, 'k'),
        (e) => isFailure(e, 'key-unusable'),
      );
    }
  });
});
