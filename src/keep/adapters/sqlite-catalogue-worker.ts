/**
 * The thread of the catalogue: node:sqlite blocks its thread, and this one may be blocked.
 *
 * Takes `{ number, name, values }`, answers `{ number, result }` or `{ number, failure | bug }`.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { isFailure } from '../../base/index.ts';
import { callCatalogue, type OpenCatalogue, openCatalogue } from './sqlite-calls.ts';

const port = parentPort;
if (port === null) throw new Error('the catalogue runs in a worker thread');

let catalogue: OpenCatalogue | undefined;

port.on('message', (call: { number: number; name: string; values: unknown[] }) => {
  const { number, name, values } = call;
  try {
    if (name === 'open') {
      catalogue = openCatalogue(String(workerData));
      port.postMessage({ number });
    } else if (name === 'close') {
      catalogue?.close();
      port.postMessage({ number });
      port.close();
    } else if (catalogue !== undefined) {
      port.postMessage({ number, result: callCatalogue(catalogue.calls, name, values) });
    }
  } catch (error) {
    if (isFailure(error)) {
      const { code, message, facts } = error;
      port.postMessage({ number, failure: { code, message, facts } });
    } else {
      port.postMessage({ number, bug: error });
    }
  }
});
