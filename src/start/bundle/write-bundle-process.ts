/**
 * Writes the bundle of this project; `main.ts` calls it when there is none of these sources.
 */
import { join } from 'node:path';
import { writeBundle } from './write-bundle.ts';

writeBundle(join(import.meta.dirname, '../../..'), Date.now());
