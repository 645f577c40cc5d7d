import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { Image, ImageStatus } from './image.ts';
import { decidePrune, type PrunePolicy } from './prune.ts';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

function imageAt(createdAt: number, facts: Partial<Image> = {}): Image {
  return {
    id: 'img-aaaaa',
    ownerId: 'acc-aaaaa',
    name: 'web',
    description: '',
    kind: 'snapshot',
    arch: 'x86_64',
    ancestorId: undefined,
    compatibilityMode: false,
    status: 'available',
    isPublic: false,
    isOfficial: false,
    isLocked: false,
    createdAt,
    virtualSizeBytes: 1,
    gzipSizeBytes: 1,
    addedBytes: 1,
    plainDigest: undefined,
    capture: {
      consistency: 'frozen',
      freezeMs: 1,
      filesystem: 'ext4',
      source: '/',
      freeSpace: 'zero',
    },
    ...facts,
  };
}

const ready: fc.Arbitrary<ImageStatus> = fc.constantFrom('available', 'deprecated');
const seriesOf = (status: fc.Arbitrary<ImageStatus>): fc.Arbitrary<Image[]> =>
  fc
    .array(
      fc.record({
        createdAt: fc.integer({ min: 0, max: 400 * 24 }).map((hours) => hours * HOUR_MS),
        isLocked: fc.boolean(),
        status,
      }),
      { maxLength: 40 },
    )
    .map((facts) =>
      facts.map((fact, i) =>
        imageAt(fact.createdAt, { ...fact, id: `img-${String(i).padStart(5, '0')}` }),
      ),
    );
const places = fc.option(fc.nat({ max: 6 }), { nil: undefined });
const policies: fc.Arbitrary<PrunePolicy> = fc.record({
  keepLast: places,
  keepDaily: places,
  keepWeekly: places,
  keepMonthly: places,
});
const keptOf = (images: readonly Image[], policy: PrunePolicy): Image[] =>
  decidePrune(images, policy)
    .filter(({ isKept }) => isKept)
    .map(({ image }) => image);

describe('pruning', () => {
  test('every image gets one decision, newest first, and what goes has no reason to stay', () => {
    fc.assert(
      fc.property(seriesOf(ready), policies, (images, policy) => {
        const decisions = decidePrune(images, policy);
        assert.equal(new Set(decisions.map(({ image }) => image.id)).size, images.length);
        for (const [i, { image, isKept, reasons }] of decisions.entries()) {
          assert.equal(isKept, reasons.length > 0);
          assert.ok(image.createdAt >= (decisions[i + 1]?.image.createdAt ?? 0));
        }
      }),
    );
  });

  test('locked and used images, and those that are not ready, always stay', () => {
    const any = fc.constantFrom<ImageStatus>('available', 'creating', 'failed', 'deleting');
    fc.assert(
      fc.property(seriesOf(any), policies, (images, policy) => {
        const isUsed = (image: Image): boolean => image.id.endsWith('3');
        const decisions = decidePrune(images, policy, (image) =>
          isUsed(image) ? 'in use by srv-gwgk2' : undefined,
        );
        for (const { image, isKept } of decisions) {
          const mustStay = image.isLocked || isUsed(image) || image.status !== 'available';
          if (mustStay) assert.ok(isKept);
        }
      }),
    );
  });

  test('the newest images of --keep-last stay', () => {
    fc.assert(
      fc.property(seriesOf(ready), fc.nat({ max: 8 }), (images, keepLast) => {
        const decisions = decidePrune(images, { keepLast });
        for (const { isKept } of decisions.slice(0, keepLast)) assert.ok(isKept);
        for (const { image, isKept } of decisions.slice(keepLast)) {
          assert.equal(isKept, image.isLocked);
        }
      }),
    );
  });

  test('pruning what stayed prunes nothing', () => {
    fc.assert(
      fc.property(seriesOf(ready), policies, (images, policy) => {
        const kept = keptOf(images, policy);
        assert.deepEqual(keptOf(kept, policy), kept);
      }),
    );
  });

  test('a rule that keeps more never loses what a smaller one keeps', () => {
    fc.assert(
      fc.property(
        seriesOf(ready),
        policies,
        fc.constantFrom('keepLast', 'keepDaily', 'keepWeekly', 'keepMonthly'),
        (images, policy, rule) => {
          const larger = new Set(keptOf(images, { ...policy, [rule]: (policy[rule] ?? 0) + 1 }));
          for (const image of keptOf(images, policy)) assert.ok(larger.has(image));
        },
      ),
    );
  });

  test('each kept day is another one, and none of them holds a newer image', () => {
    fc.assert(
      fc.property(seriesOf(ready), fc.integer({ min: 1, max: 6 }), (images, keepDaily) => {
        const free = images.map((image) => ({ ...image, isLocked: false }));
        const days = new Map<number, number>();
        for (const { createdAt } of free) {
          const day = Math.floor(createdAt / DAY_MS);
          days.set(day, Math.max(days.get(day) ?? 0, createdAt));
        }
        const expected = [...days.values()].toSorted((a, b) => b - a).slice(0, keepDaily);
        assert.deepEqual(
          keptOf(free, { keepDaily }).map(({ createdAt }) => createdAt),
          expected,
        );
      }),
    );
  });

  test('days, weeks and months are those of the calendar', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 40_000 }), (day) => {
        const image = imageAt(day * DAY_MS + 5 * HOUR_MS);
        const policy = { keepDaily: 1, keepWeekly: 1, keepMonthly: 1 };
        const [decision] = decidePrune([image], policy);
        const iso = new Date(day * DAY_MS).toISOString().slice(0, 10);
        const monday = new Date(day * DAY_MS);
        monday.setUTCDate(monday.getUTCDate() - ((monday.getUTCDay() + 6) % 7));
        assert.deepEqual(decision?.reasons, [
          `daily ${iso}`,
          `weekly ${monday.toISOString().slice(0, 10)}`,
          `monthly ${iso.slice(0, 7)}`,
        ]);
      }),
    );
  });
});
