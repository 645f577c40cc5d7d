/** What long work tells whoever waits for it. */
export interface ProgressReport {
  /** Bytes done so far; never runs back within one stage. */
  readonly doneBytes: number;
  /** Bytes in all, or undefined while nobody knows. */
  readonly totalBytes: number | undefined;
  /** What is being done, as a short phrase ("reading the frozen filesystem"). */
  readonly stage: string;
}

/** Takes reports; must return at once and must not throw. */
export type OnProgress = (report: ProgressReport) => void;

/** Drops every report. */
export const noProgress: OnProgress = () => undefined;
