/** One column of a table: its heading, and the text of a row in it. */
export interface Column<T> {
  readonly heading: string;
  readonly text: (row: T) => string;
}

/**
 * Formats a list as the Brightbox command line does: an empty line, one space of indent, two spaces
 * between columns, every column as wide as its widest text, a rule above and below, an empty line.
 *
 * @param widthColumns where lines must end, for a terminal: the last column then ends in `...`
 * @see docs/cli.md
 */
export function formatTable<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  widthColumns = Number.POSITIVE_INFINITY,
): string {
  const cells = rows.map((row) => columns.map((column) => printable(column.text(row))));
  const widths = columns.map((column, i) =>
    Math.max(column.heading.length, ...cells.map((row) => widthOf(row[i] ?? ''))),
  );
  const fixed = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 2);
  const last = widths.length - 1;
  widths[last] = Math.max(4, Math.min(widths[last] ?? 0, widthColumns - fixed));
  const line = (texts: readonly string[]): string =>
    ` ${texts.map((text, i) => fitted(text, widths[i] ?? 0)).join('  ')}`;
  const heading = line(columns.map((column) => column.heading));
  const rule = '-'.repeat(heading.length + 1);
  return ['', heading, rule, ...cells.map(line), rule, '', ''].join('\n');
}

/** Formats one thing as the Brightbox command line does: names to the right, `: `, the value. */
export function formatFields(fields: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...fields.map(([name]) => name.length));
  return fields.map(([name, value]) => `${name.padStart(width)}: ${printable(value)}\n`).join('');
}

/** Formats rows for programs: a tab between fields, nothing else. */
export function formatTabs<T>(columns: readonly Column<T>[], rows: readonly T[]): string {
  return rows
    .map(
      (row) => `${columns.map((c) => printable(c.text(row)).replaceAll('\t', ' ')).join('\t')}\n`,
    )
    .join('');
}

/** Takes out what would move the cursor or break a line: names come from anybody. */
function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ');
}

const GRAPHEMES = new Intl.Segmenter('en', { granularity: 'grapheme' });

function charactersOf(text: string): string[] {
  return Array.from(GRAPHEMES.segment(text), ({ segment }) => segment);
}

function widthOf(text: string): number {
  return charactersOf(text).length;
}

function fitted(text: string, width: number): string {
  const characters = charactersOf(text);
  const missing = width - characters.length;
  if (missing >= 0) return text + ' '.repeat(missing);
  return `${characters.slice(0, width - 3).join('')}...`;
}
