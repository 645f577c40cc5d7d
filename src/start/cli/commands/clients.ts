import type { Command } from '@commander-js/extra-typings';
import { type Id, IngotError, isId } from '../../../base/index.ts';
import {
  clientListSchema,
  clientSchema,
  newClientSchema,
  type WireClient,
} from '../../../serve/index.ts';
import type { CliContext } from '../context.ts';
import { mayDestroy } from '../support/ask.ts';
import { type Column, formatFields, formatTable } from '../support/brightbox-table.ts';
import { openClient } from '../support/daemon-access.ts';
import { PROFILE_OPTION } from '../support/profile-option.ts';

const LIST_EXAMPLES = `
Example:
  ingot clients list
`;
const SHOW_EXAMPLES = `
Example:
  ingot clients show cli-h3nbk
`;
const CREATE_EXAMPLES = `
Examples:
  ingot clients create build-server
  ingot clients create laptop --json | jq -r .secret

The secret is shown this once. On the other machine: ingot login URL --client ID
`;
const DESTROY_EXAMPLES = `
Examples:
  ingot clients destroy cli-h3nbk      asks first when a person is there
  ingot clients destroy --yes cli-h3nbk

Its tokens end at once. A client cannot destroy itself.
`;

const COLUMNS: readonly Column<WireClient>[] = [
  { heading: 'id', text: (client) => client.id },
  { heading: 'created_at', text: (client) => client.created_at },
  { heading: 'name', text: (client) => client.name },
];

/** `ingot clients …`. */
export function registerClients(program: Command, context: CliContext): void {
  const clients = program.command('clients').description('what may act for your account');
  registerList(clients, context);
  registerShow(clients, context);
  registerCreate(clients, context);
  registerDestroy(clients, context);
}

function registerList(clients: Command, context: CliContext): void {
  clients
    .command('list')
    .description('list API clients, the oldest first')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', LIST_EXAMPLES)
    .action(async (options) => {
      using daemon = openClient(context, options);
      const list = await daemon.json(clientListSchema, { method: 'GET', path: '/clients' });
      context.stdout.write(
        options.json === true ? json(list.clients) : formatTable(COLUMNS, list.clients),
      );
    });
}

function registerShow(clients: Command, context: CliContext): void {
  clients
    .command('show')
    .description('show an API client')
    .argument('<client>', 'its id')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', SHOW_EXAMPLES)
    .action(async (text, options) => {
      using daemon = openClient(context, options);
      const call = { method: 'GET', path: `/clients/${clientIdOf(text)}` } as const;
      const client = await daemon.json(clientSchema, call);
      context.stdout.write(options.json === true ? json(client) : formatFields(fieldsOf(client)));
    });
}

function registerCreate(clients: Command, context: CliContext): void {
  clients
    .command('create')
    .description('make an API client and show its secret')
    .argument('<name>', 'what it is for')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', CREATE_EXAMPLES)
    .action(async (name, options) => {
      using daemon = openClient(context, options);
      const call = { method: 'POST', path: '/clients' } as const;
      const client = await daemon.json(newClientSchema, call, { name });
      context.stdout.write(
        options.json === true
          ? json(client)
          : formatFields([...fieldsOf(client), ['secret', client.secret]]),
      );
    });
}

function registerDestroy(clients: Command, context: CliContext): void {
  clients
    .command('destroy')
    .description('destroy API clients; their tokens end at once')
    .argument('<client...>', 'their ids')
    .option('-y, --yes', 'do not ask')
    .option('--json', 'as JSON')
    .option(...PROFILE_OPTION)
    .addHelpText('after', DESTROY_EXAMPLES)
    .action(async (texts, options) => {
      using daemon = openClient(context, options);
      for (const id of texts.map(clientIdOf)) {
        const path = `/clients/${id}`;
        const { name } = await daemon.json(clientSchema, { method: 'GET', path });
        if (options.yes !== true && !(await mayDestroy(context, `${id} (${name})`))) {
          throw new IngotError('not-allowed', `${id} was kept`, { clientId: id });
        }
        const destroyed = await daemon.json(clientSchema, { method: 'DELETE', path });
        if (options.json === true) context.stdout.write(`${JSON.stringify(destroyed)}\n`);
        else context.stderr.write(`Destroying API client ${id}\n`);
      }
    });
}

function json(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function fieldsOf(client: WireClient): (readonly [string, string])[] {
  return [
    ['id', client.id],
    ['name', client.name],
    ['account_id', client.account_id],
    ['created_at', client.created_at],
  ];
}

function clientIdOf(text: string): Id<'cli'> {
  if (isId('cli', text)) return text;
  throw new IngotError('client-not-found', `${text} is no client id; they look like cli-h3nbk`);
}
