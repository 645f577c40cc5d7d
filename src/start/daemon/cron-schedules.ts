import { Cron } from 'croner';
import type { Schedule } from '../../keep/index.ts';
import type { DaemonSettings } from '../settings/daemon-settings.ts';

/** The schedules that are on, in the machine's time zone. */
export function cronSchedules(settings: DaemonSettings['schedules']): Schedule[] {
  const kinds = ['backup', 'collect', 'verify'] as const;
  return kinds.flatMap((kind) => {
    const pattern = settings[kind];
    if (pattern === undefined) return [];
    const cron = new Cron(pattern, { paused: true });
    return [{ kind, pattern, nextAfter: (ms) => cron.nextRun(new Date(ms))?.getTime() }];
  });
}
