import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzArtifacts } from '../support/artifact-fuzz.ts';

test('twenty thousand changed artifacts crash nothing, hang nothing and lead nowhere', async () => {
  const { accepted, refused } = await fuzzArtifacts({ runs: 20_000, seed: 100_000 });
  assert.equal(accepted + refused, 20_000);
  assert.ok(refused > accepted);
});
