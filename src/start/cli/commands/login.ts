import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import { DaemonClient } from '../../client/daemon-client.ts';
import { profilesPath, readProfiles, writeProfiles } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';
import { ask } from '../support/ask.ts';

const EXAMPLES = `
Examples:
  ingot login https://images.example.org --client cli-h3nbk --name office
  echo "$SECRET" | ingot login http://10.0.0.5:7780 --client cli-h3nbk
`;

/** `ingot login`. */
export function registerLogin(program: Command, context: CliContext): void {
  program
    .command('login')
    .description('prove an API client to a daemon and keep it as a profile')
    .argument('<url>', 'where the daemon is')
    .requiredOption('--client <id>', 'the API client')
    .option('--name <name>', "the profile's name (default: the host's)")
    .option('--ca <file>', 'PEM file of an authority to trust beside the system')
    .option('--default', 'use it when no profile is named')
    .option('--json', 'as JSON')
    .addHelpText('after', EXAMPLES)
    .action(async (url, options) => {
      if (!URL.canParse(url) || !/^https?:/.test(url)) {
        throw new IngotError('settings-invalid', `${url} is not an http or https URL`);
      }
      const secret = await ask(context, 'Secret: ', { hidden: true });
      const profile = {
        url,
        client: options.client,
        secret,
        ...(options.ca === undefined ? {} : { ca: options.ca }),
      };
      using client = new DaemonClient(profile, context.signal);
      await client.login();
      const name = options.name ?? new URL(url).hostname;
      const known = readProfiles(context.env);
      const isDefault = options.default === true || known.default === undefined;
      writeProfiles(context.env, {
        ...(isDefault ? { default: name } : { default: known.default }),
        profiles: { ...known.profiles, [name]: profile },
      });
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify({ name, url, client: options.client, default: isDefault })}\n`
          : `Profile ${name} is kept in ${profilesPath(context.env)}${isDefault ? ' and is the default' : ''}.\n`,
      );
    });
}
