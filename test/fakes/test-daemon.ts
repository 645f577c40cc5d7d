import type { AddressInfo } from 'node:net';
import { pino } from 'pino';
import { silentLog, systemClock } from '../../src/base/index.ts';
import { zlibSegmentCodec } from '../../src/keep/adapters/zlib-segment-codec.ts';
import { publishRaw, publishRawGz } from '../../src/publish/index.ts';
import type { Caller } from '../../src/serve/index.ts';
import { DaemonClient } from '../../src/start/client/daemon-client.ts';
import { httpServer } from '../../src/start/daemon/http-server.ts';
import { libraryClients } from '../../src/start/daemon/library-clients.ts';
import { libraryState } from '../../src/start/daemon/library-state.ts';
import { libraryUpkeep } from '../../src/start/daemon/library-upkeep.ts';
import { openImports } from '../../src/start/daemon/open-imports.ts';
import { IMPORT_DEFAULTS, type ImportSettings } from '../../src/start/settings/daemon-settings.ts';
import {
  ACCOUNT,
  FOREIGN,
  openTestLibrary,
  type TestLibrary,
  testWorkers,
} from '../contracts/test-library.ts';

const SECRET = 'a secret of a test';
const CALLERS: readonly Caller[] = [
  { clientId: 'cli-aaaaa', accountId: ACCOUNT },
  { clientId: 'cli-bbbbb', accountId: FOREIGN },
];

/** A real HTTP port over a real library in a temporary directory, with two accounts. */
interface TestDaemon extends AsyncDisposable {
  readonly test: TestLibrary;
  readonly url: string;
  /** Clients of the account that owns everything, and of another one. */
  readonly own: DaemonClient;
  readonly foreign: DaemonClient;
  /** What a command of the first account needs in its environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Forgets what this process knows of uploads, as a restart would. */
  reopenImports(): Promise<void>;
}

/** Starts one. */
export async function startTestDaemon(limits: Partial<ImportSettings> = {}): Promise<TestDaemon> {
  await using undo = new AsyncDisposableStack();
  const test = undo.use(await openTestLibrary());
  const settings = { ...IMPORT_DEFAULTS, diskReserveBytes: 0, ...limits };
  let imports = await openImports(test.library, test.folder, settings);
  undo.defer(() => imports[Symbol.asyncDispose]());
  const server = await httpServer({
    settings: { tls: undefined, trustProxy: false, publicUrl: undefined },
    backend: {
      clients: {
        ...libraryClients(test.library.accounts),
        authenticate: async (id, secret) =>
          secret === SECRET ? CALLERS.find((caller) => caller.clientId === id) : undefined,
        isKnown: async () => true,
      },
      upkeep: {
        ...libraryUpkeep(test.library, { list: async () => [] }),
        isOperator: async ({ accountId }) => accountId === ACCOUNT,
      },
      lend: (lengthBytes) => testWorkers.lend(lengthBytes),
      library: ({ accountId }) => test.library.forAccount(accountId),
      imports: ({ accountId }) => imports.forAccount(accountId),
      openFile: async ({ accountId }, id, form) => {
        const image = await test.library.forAccount(accountId).open(id);
        return form === 'raw' ? publishRaw(image, zlibSegmentCodec) : publishRawGz(image);
      },
    },
    tokenSecret: Buffer.alloc(32, 7),
    clock: systemClock,
    logger: pino({ enabled: false }),
    version: '0.0.0',
    ...libraryState(test.library, { clock: systemClock, log: silentLog, keepFreeBytes: 0 }),
  });
  undo.defer(() => server.close());
  await server.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(server.server.address() as AddressInfo).port}`;
  const [own, foreign] = CALLERS.map(({ clientId }) =>
    undo.use(new DaemonClient({ url, client: clientId, secret: SECRET }, undefined)),
  );
  if (own === undefined || foreign === undefined) throw new Error('two callers are needed');
  const owned = undo.move();
  const env = { INGOT_URL: url, INGOT_CLIENT: 'cli-aaaaa', INGOT_SECRET: SECRET };
  const reopenImports = async (): Promise<void> => {
    await imports[Symbol.asyncDispose]();
    imports = await openImports(test.library, test.folder, settings);
  };
  return {
    test,
    url,
    own,
    foreign,
    env,
    reopenImports,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}
