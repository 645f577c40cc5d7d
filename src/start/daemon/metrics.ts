import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { NativeMetrics } from '../../serve/index.ts';

/** What `/metrics` tells, in Prometheus' text form. */
export interface DaemonMetrics extends NativeMetrics {
  readonly contentType: string;
  /** @param route the route's pattern, never a path: paths would make a series for each image */
  observeRequest(request: {
    readonly method: string;
    readonly route: string;
    readonly status: number;
    readonly seconds: number;
  }): void;
  text(): Promise<string>;
}

/** What the library and its jobs are at one moment. */
export interface LibraryGauges {
  readonly images: number;
  readonly storedBytes: number;
  readonly quarantinedChunks: number;
  readonly freeBytes: number;
  readonly jobs: readonly {
    readonly kind: string;
    readonly state: string;
    readonly count: number;
  }[];
}

/** Makes the counters of one daemon. */
export function daemonMetrics(gauges: () => Promise<LibraryGauges>): DaemonMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const requests = new Histogram({
    name: 'ingot_http_request_seconds',
    help: 'Time from the request to the end of the answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.025, 0.1, 0.5, 2.5, 10, 60, 600],
    registers: [registry],
  });
  const sent = new Counter({
    name: 'ingot_image_sent_bytes_total',
    help: 'Bytes of images given out.',
    registers: [registry],
  });
  const received = new Counter({
    name: 'ingot_image_received_bytes_total',
    help: 'Bytes of segments and uploads taken in.',
    registers: [registry],
  });
  const answers = new Gauge({
    name: 'ingot_answers_in_memory',
    help: 'Answers with chunks of images that are made or wait for their readers.',
    registers: [registry],
  });
  addGauges(registry, gauges);
  return {
    contentType: registry.contentType,
    sentBytes: (bytes) => sent.inc(bytes),
    receivedBytes: (bytes) => received.inc(bytes),
    answersInMemory: (count) => answers.set(count),
    observeRequest: ({ seconds, status, ...labels }) =>
      requests.observe({ ...labels, status: String(status) }, seconds),
    text: () => registry.metrics(),
  };
}

function addGauges(registry: Registry, read: () => Promise<LibraryGauges>): void {
  const plain: readonly (readonly [string, string, (gauges: LibraryGauges) => number])[] = [
    ['ingot_images', 'Images that can be read.', ({ images }) => images],
    ['ingot_stored_bytes', 'Coded bytes of live chunks.', ({ storedBytes }) => storedBytes],
    [
      'ingot_quarantined_chunks',
      'Chunks whose stored bytes are wrong.',
      ({ quarantinedChunks }) => quarantinedChunks,
    ],
    [
      'ingot_disk_free_bytes',
      "Free bytes of the data directory's disk.",
      ({ freeBytes }) => freeBytes,
    ],
  ];
  for (const [name, help, pick] of plain) {
    const gauge: Gauge = new Gauge({
      name,
      help,
      registers: [registry],
      collect: async () => gauge.set(pick(await read())),
    });
  }
  const jobs: Gauge<'kind' | 'state'> = new Gauge({
    name: 'ingot_jobs',
    help: 'Jobs that are known, by kind and state.',
    labelNames: ['kind', 'state'],
    registers: [registry],
    collect: async () => {
      jobs.reset();
      for (const { kind, state, count } of (await read()).jobs) jobs.set({ kind, state }, count);
    },
  });
}
