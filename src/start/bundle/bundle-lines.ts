/** Begins a module in the script. */
const MODULE_START = /^"([^"\n]+)": \[/gm;

interface ModuleStart {
  readonly path: string;
  readonly line: number;
}

function moduleStarts(script: string): ModuleStart[] {
  const starts: ModuleStart[] = [];
  let line = 1;
  let at = 0;
  for (const match of script.matchAll(MODULE_START)) {
    for (; at < match.index; at++) if (script.charCodeAt(at) === 10) line += 1;
    starts.push({ path: match[1] ?? '', line });
  }
  return starts;
}

/**
 * Has errors tell the lines of the sources instead of those of the script: a module stands in it
 * line for line.
 *
 * @param name what the script is called in a stack
 */
export function tellSourceLines(script: string, name: string): void {
  let starts: ModuleStart[] | undefined;
  Error.prepareStackTrace = (error, frames) => {
    const texts = frames.map(String);
    const lines = frames.map((frame, i) => {
      const text = texts[i] ?? '';
      if (frame.getFileName() !== name) return `    at ${text}`;
      starts ??= moduleStarts(script);
      const line = frame.getLineNumber() ?? 0;
      const start = starts.findLast((one) => one.line <= line);
      if (start === undefined) return `    at ${text}`;
      return `    at ${text.replace(/[^\s(]+:\d+(?=:\d+\)?$)/, `${start.path}:${line - start.line + 1}`)}`;
    });
    return [String(error), ...lines].join('\n');
  };
}
