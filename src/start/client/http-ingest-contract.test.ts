import { ingestSessionContract } from '../../../test/contracts/ingest-session.ts';
import { startTestDaemon } from '../../../test/fakes/test-daemon.ts';
import { HttpIngestTarget } from './http-ingest-target.ts';

ingestSessionContract('a daemon over HTTP', async () => {
  const daemon = await startTestDaemon();
  return {
    target: new HttpIngestTarget(daemon.own),
    foreign: new HttpIngestTarget(daemon.foreign),
    names: async () => (await daemon.test.account.list()).map((image) => image.name),
    [Symbol.asyncDispose]: () => daemon[Symbol.asyncDispose](),
  };
});
