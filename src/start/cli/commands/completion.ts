import tab from '@bomb.sh/tab/commander';
import type { Command } from '@commander-js/extra-typings';
import { DaemonClient } from '../../client/daemon-client.ts';
import { chooseProfile } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';

const EXAMPLES = `
Examples:
  source <(ingot completion bash)                                  in ~/.bashrc
  ingot completion zsh > "\${fpath[1]}/_ingot"                       for zsh
  ingot completion fish > ~/.config/fish/completions/ingot.fish    for fish

Ids of images come from the daemon while you type.
`;

/** Nobody waits longer for a suggestion. */
const PATIENCE_MS = 1500;
const MAX_SUGGESTIONS = 200;

/** What a word of the command line may be. */
interface Suggestion {
  readonly value: string;
  readonly description: string;
}

/**
 * `ingot completion SHELL`, and the hidden command that the shells ask. It reads the commands of the
 * program, so it is added last.
 */
export function registerCompletion(program: Command, context: CliContext): void {
  const root = tab(program as unknown as Parameters<typeof tab>[0], {
    completionCommandName: 'completion',
  });
  command(program, 'completion')?.addHelpText('after', EXAMPLES);
  command(program, 'complete')?.action(async (...given: unknown[]) => {
    const words = (given[0] as readonly string[] | undefined) ?? [];
    if (words[0] === 'images') {
      const images = await suggestImages(context);
      for (const [name, { arguments: known }] of root.commands) {
        const image = name.startsWith('images ') ? known.get('image') : undefined;
        if (image === undefined) continue;
        image.handler = (complete) => {
          for (const { value, description } of images) complete(value, description);
        };
      }
    }
    root.parse([...words]);
  });
}

function command(program: Command, name: string): Command | undefined {
  const found = program.commands.find((candidate) => candidate.name() === name);
  return found as unknown as Command | undefined;
}

/** Completion never fails and never says anything: without a daemon there are no suggestions. */
async function suggestImages(context: CliContext): Promise<Suggestion[]> {
  const suggestions: Suggestion[] = [];
  try {
    const profile = chooseProfile(context.env, undefined);
    using client = new DaemonClient(profile, AbortSignal.timeout(PATIENCE_MS));
    for await (const image of client.images()) {
      suggestions.push({ value: image.id, description: image.name });
      if (suggestions.length === MAX_SUGGESTIONS) break;
    }
  } catch {
    return suggestions;
  }
  return suggestions;
}
