/**
 * What every Node process of Ingot is started with: without Maglev, whose sums were wrong, and
 * without the warning that SQLite of Node is new. `bin/ingot` says the same.
 *
 * @see docs/adr/0012-without-the-middle-compiler-of-v8.md
 */
export const NODE_FLAGS = ['--no-maglev', '--disable-warning=ExperimentalWarning'] as const;
