import { Counter, collectDefaultMetrics, Histogram, Registry } from 'prom-client';
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

/** Makes the counters of one daemon. */
export function daemonMetrics(): DaemonMetrics {
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
  return {
    contentType: registry.contentType,
    sentBytes: (bytes) => sent.inc(bytes),
    receivedBytes: (bytes) => received.inc(bytes),
    observeRequest: ({ seconds, status, ...labels }) =>
      requests.observe({ ...labels, status: String(status) }, seconds),
    text: () => registry.metrics(),
  };
}
