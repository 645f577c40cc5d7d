import { type Image, isReadable } from './image.ts';

/** How many images of a series are kept. A rule that is not given keeps nothing by itself. */
export interface PrunePolicy {
  /** The newest images. */
  readonly keepLast?: number | undefined;
  /** The newest image of each of the newest days (UTC) that have one. */
  readonly keepDaily?: number | undefined;
  /** The same for weeks, which begin on Monday. */
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
}

/** What becomes of one image, and why. */
export interface PruneDecision {
  readonly image: Image;
  readonly isKept: boolean;
  /** `last`, `daily 2026-11-22`, `weekly 2026-11-16`, `monthly 2026-11`, `locked`, or who uses it. */
  readonly reasons: readonly string[];
}

/** Says who uses an image ("in use by srv-gwgk2"), or undefined. */
export type UsedBy = (image: Image) => string | undefined;

const DAY_MS = 86_400_000;

/**
 * Decides which images of a series stay.
 *
 * The rules count what is there, not the days until today: a machine that was off for a month loses
 * nothing. An image stays when one rule keeps it; locked and used ones always stay, and so does
 * everything that is not ready (its upload may be under way). Pruning what stayed prunes nothing.
 *
 * @param images one series in any order: all that compete for the places of the policy
 * @returns one decision for each image, newest first
 */
export function decidePrune(
  images: readonly Image[],
  policy: PrunePolicy,
  usedBy: UsedBy = () => undefined,
): PruneDecision[] {
  const newestFirst = images.toSorted(
    (a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1),
  );
  const rules = [
    new Rule(
      policy.keepLast,
      (image) => image.id,
      () => 'last',
    ),
    new Rule(policy.keepDaily, dayOf, (day) => `daily ${day}`),
    new Rule(policy.keepWeekly, weekOf, (monday) => `weekly ${monday}`),
    new Rule(
      policy.keepMonthly,
      (image) => dayOf(image).slice(0, 7),
      (month) => `monthly ${month}`,
    ),
  ];
  return newestFirst.map((image): PruneDecision => {
    const reasons: string[] = [];
    if (image.isLocked) reasons.push('locked');
    const user = usedBy(image);
    if (user !== undefined) reasons.push(user);
    if (isReadable(image.status)) {
      for (const rule of rules) {
        const reason = rule.reasonToKeep(image);
        if (reason !== undefined) reasons.push(reason);
      }
    } else {
      reasons.push(image.status);
    }
    return { image, isKept: reasons.length > 0, reasons };
  });
}

/** Keeps the first image of each of the first periods that it is shown, newest first. */
class Rule {
  readonly #places: number;
  readonly #periodOf: (image: Image) => string;
  readonly #label: (period: string) => string;
  readonly #seen = new Set<string>();

  constructor(
    places: number | undefined,
    periodOf: (image: Image) => string,
    label: (period: string) => string,
  ) {
    this.#places = places ?? 0;
    this.#periodOf = periodOf;
    this.#label = label;
  }

  reasonToKeep(image: Image): string | undefined {
    const period = this.#periodOf(image);
    if (this.#seen.size >= this.#places || this.#seen.has(period)) return undefined;
    this.#seen.add(period);
    return this.#label(period);
  }
}

function dayOf({ createdAt }: Image): string {
  return formatDay(Math.floor(createdAt / DAY_MS));
}

function weekOf({ createdAt }: Image): string {
  const day = Math.floor(createdAt / DAY_MS);
  // 1970-01-01, day 0, was a Thursday: three days after its Monday.
  const sinceMonday = (((day + 3) % 7) + 7) % 7;
  return formatDay(day - sinceMonday);
}

/**
 * Formats a day of the Gregorian calendar as ISO 8601 has it.
 *
 * The year is counted from March, so that the leap day is its last and months have a regular length.
 *
 * @param day days since 1970-01-01
 */
function formatDay(day: number): string {
  const sinceMarch0 = day + 719_468; // Days from 0000-03-01 to 1970-01-01.
  const era = Math.floor(sinceMarch0 / 146_097); // 400 years.
  const inEra = sinceMarch0 - era * 146_097;
  const yearOfEra = Math.floor(
    (inEra - Math.floor(inEra / 1460) + Math.floor(inEra / 36_524) - Math.floor(inEra / 146_096)) /
      365,
  );
  const inYear =
    inEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const monthFromMarch = Math.floor((5 * inYear + 2) / 153);
  const dayOfMonth = inYear - Math.floor((153 * monthFromMarch + 2) / 5) + 1;
  const month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9;
  const year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0);
  const two = (value: number): string => String(value).padStart(2, '0');
  return `${String(year).padStart(4, '0')}-${two(month)}-${two(dayOfMonth)}`;
}
