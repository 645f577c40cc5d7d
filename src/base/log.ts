/** Facts beside a log line. Never put a secret here. */
export type LogFacts = Readonly<Record<string, string | number | boolean | undefined>>;

/** Where a part of Ingot tells its operator what happened. */
export interface Log {
  debug(message: string, facts?: LogFacts): void;
  info(message: string, facts?: LogFacts): void;
  warn(message: string, facts?: LogFacts): void;
  error(message: string, facts?: LogFacts): void;
}

/** Says nothing. */
export const silentLog: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
