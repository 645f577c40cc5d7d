import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fuzzArtifacts } from '../../../test/support/artifact-fuzz.ts';

test('artifacts that are changed at random are refused clearly, or are still right', async () => {
  const { accepted, refused } = await fuzzArtifacts({ runs: 1500, seed: 1 });
  assert.ok(accepted > 0, 'some changes mean nothing');
  assert.ok(refused > accepted, 'most changes are found');
});
