import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { after, describe, test } from 'node:test';
import { isFailure } from '../../base/index.ts';
import { openHttpFiles } from './http-file.ts';
import { isPublicAddress } from './public-address.ts';

const NEW = { offsetBytes: 0, validator: undefined };
const signal = new AbortController().signal;
const anywhere = (): boolean => true;
let requests = 0;
const server = createServer((request, response) => {
  requests += 1;
  if (request.url !== '/silent') response.end('some bytes');
}).listen(0, '0.0.0.0');
after(() => {
  server.closeAllConnections();
  server.close();
});
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

/** A resolver whose answers change from one question to the next. */
function rebinding(...addresses: string[]): LookupFunction & { asked: number } {
  const lookup = ((_name, _options, done) => {
    const address = addresses[Math.min(lookup.asked, addresses.length - 1)] ?? '';
    lookup.asked += 1;
    done(null, [{ address, family: 4 }]);
  }) as LookupFunction & { asked: number };
  lookup.asked = 0;
  return lookup;
}

describe('a file over http', () => {
  test('is not fetched from a name that leads to this machine', async () => {
    const before = requests;
    const open = openHttpFiles({ mayConnectTo: isPublicAddress, lookup: rebinding('127.0.0.1') });
    await assert.rejects(open(new URL(`http://public.example:${port}/`), NEW, signal), (thrown) =>
      isFailure(thrown, 'not-allowed'),
    );
    assert.equal(requests, before);
  });

  test('is asked for at the address that was checked, and no other', async () => {
    const lookup = rebinding('127.0.0.2', '127.0.0.1');
    const mayConnectTo = (address: string): boolean => address === '127.0.0.2';
    const open = openHttpFiles({ mayConnectTo, lookup });
    const url = new URL(`http://public.example:${port}/`);
    assert.equal((await open(url, NEW, signal)).offsetBytes, 0);
    assert.equal(lookup.asked, 1);
    await assert.rejects(open(url, NEW, signal), (thrown) => isFailure(thrown, 'not-allowed'));
  });

  test('comes from wherever it is allowed to', async () => {
    const open = openHttpFiles({ mayConnectTo: anywhere, lookup: rebinding('127.0.0.1') });
    const part = await open(new URL(`http://private.example:${port}/`), NEW, signal);
    let text = '';
    for await (const bytes of part.body) text += bytes.toString();
    assert.equal(text, 'some bytes');
  });

  test('is given up when its server says nothing', async () => {
    const open = openHttpFiles({ mayConnectTo: anywhere, idleMs: 50 });
    const asking = open(new URL(`http://127.0.0.1:${port}/silent`), NEW, signal);
    await assert.rejects(
      asking,
      (thrown) => isFailure(thrown, 'source-unreadable') && /said nothing/.test(thrown.message),
    );
  });
});
