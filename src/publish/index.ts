export type { PublishedFile } from './published-file.ts';
