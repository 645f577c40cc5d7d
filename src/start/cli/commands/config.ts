import type { Command } from '@commander-js/extra-typings';
import { IngotError } from '../../../base/index.ts';
import { profilesPath, readProfiles, writeProfiles } from '../../settings/profiles.ts';
import type { CliContext } from '../context.ts';
import { formatTable } from '../support/brightbox-table.ts';

const LIST_EXAMPLES = `
Example:
  ingot config list
`;
const DEFAULT_EXAMPLES = `
Example:
  ingot config default office
`;
const REMOVE_EXAMPLES = `
Example:
  ingot config remove office
`;

interface ProfileRow {
  readonly name: string;
  readonly url: string;
  readonly client: string;
  readonly isDefault: boolean;
}

/** `ingot config …`: the profiles, never their secrets. */
export function registerConfig(program: Command, context: CliContext): void {
  const config = program.command('config').description('the profiles by which daemons are reached');
  config
    .command('list')
    .description('list profiles, without their secrets')
    .option('--json', 'as JSON')
    .addHelpText('after', LIST_EXAMPLES)
    .action((options) => {
      const rows = profileRows(context);
      context.stdout.write(
        options.json === true
          ? `${JSON.stringify({ path: profilesPath(context.env), profiles: rows }, null, 2)}\n`
          : formatTable(
              [
                { heading: 'alias', text: (row) => row.name },
                { heading: 'client_id', text: (row) => row.client },
                { heading: 'default', text: (row) => (row.isDefault ? '*' : '') },
                { heading: 'api_url', text: (row) => row.url },
              ],
              rows,
            ),
      );
    });
  config
    .command('default')
    .description('choose the profile that is used when none is named')
    .argument('<name>', 'the profile')
    .addHelpText('after', DEFAULT_EXAMPLES)
    .action((name) => {
      const known = readProfiles(context.env);
      requireProfile(known.profiles, name);
      writeProfiles(context.env, { ...known, default: name });
    });
  config
    .command('remove')
    .description('forget a profile')
    .argument('<name>', 'the profile')
    .addHelpText('after', REMOVE_EXAMPLES)
    .action((name) => {
      const known = readProfiles(context.env);
      requireProfile(known.profiles, name);
      const { [name]: _gone, ...profiles } = known.profiles;
      const isDefault = known.default === name;
      writeProfiles(context.env, {
        ...(known.default === undefined || isDefault ? {} : { default: known.default }),
        profiles,
      });
    });
}

function profileRows(context: CliContext): ProfileRow[] {
  const { default: standard, profiles } = readProfiles(context.env);
  return Object.entries(profiles).map(([name, { url, client }]) => ({
    name,
    url,
    client,
    isDefault: name === standard,
  }));
}

function requireProfile(profiles: Readonly<Record<string, unknown>>, name: string): void {
  if (Object.hasOwn(profiles, name)) return;
  throw new IngotError('profile-missing', `no profile is named ${name}`, { name });
}
