import { randomInt } from 'node:crypto';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';

/** Kinds of things that have an id of the form `img-h3nbk`. */
export const ID_PREFIXES = ['img', 'acc', 'cli', 'srv', 'typ', 'zon', 'job', 'ing'] as const;

/** The part of an id before the dash. */
export type IdPrefix = (typeof ID_PREFIXES)[number];

/** An id: prefix, dash, five of [a-z0-9]. The caller checks that it is unique and never reused. */
export type Id<P extends IdPrefix = IdPrefix> = `${P}-${string}`;

/** Makes an id with five random characters (60 million of them per kind). */
export function newId<P extends IdPrefix>(prefix: P): Id<P> {
  let tail = '';
  for (let i = 0; i < 5; i++) tail += ALPHABET.charAt(randomInt(ALPHABET.length));
  return `${prefix}-${tail}`;
}

/** Tells whether `text` has the form of an id of this kind. */
export function isId<P extends IdPrefix>(prefix: P, text: string): text is Id<P> {
  return text.length === prefix.length + 6 && new RegExp(`^${prefix}-[a-z0-9]{5}$`).test(text);
}
