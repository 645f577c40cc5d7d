/** Plays schedules of one scenario on a thread of its own: a test runner's hooks make promises slow. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { parentPort, workerData } from 'node:worker_threads';
import { check, SCENARIOS, type Scenario, Stage } from './interleaved-acts.ts';
import { Meetings } from './meetings.ts';
import {
  actor,
  chosenBy,
  explore,
  following,
  formatSwitches,
  parseSwitches,
  Scheduler,
  type Trace,
} from './schedules.ts';
import { SeededNumbers } from './simulated-disk.ts';

/** What to play of a scenario. */
export interface PlayOrder {
  readonly scenario: string;
  /** Every schedule with at most so many preemptions. */
  readonly preemptions: number;
  /** Schedules by seeds beside them. */
  readonly seeds: number;
  readonly firstSeed: number;
  /** Only this schedule. */
  readonly schedule?: string;
}

/** What was played. */
export interface PlayReport {
  readonly schedules: number;
  readonly byChance: number;
  /** Places at which acts change, in the schedule without preemptions. */
  readonly points: number;
}

type Choose = Parameters<Scheduler['run']>[1];

let names = new Map<number | undefined, SeededNumbers>();

/** Each act has names of its own for its packs and images, whoever went before it. */
function numbers(): SeededNumbers {
  const act = actor();
  const own = names.get(act) ?? new SeededNumbers((act ?? -1) + 2);
  names.set(act, own);
  return own;
}

// Nothing else of an act is left to chance: a schedule that is played again is the same again.
Object.assign(crypto, {
  randomBytes: (size: number) =>
    Buffer.from(Array.from({ length: size }, () => numbers().below(256))),
  randomInt: (limit: number) => numbers().below(limit),
});
syncBuiltinESMExports();

class Plays {
  readonly #name: string;
  readonly #scenario: Scenario;
  readonly #meetings = new Meetings();

  constructor(name: string) {
    this.#name = name;
    this.#scenario = SCENARIOS[name] as Scenario;
  }

  /** Learns what the acts do: one after another, whoever begins. */
  async rehearse(): Promise<void> {
    for (const act of this.#scenario.acts.keys()) {
      const trace = await this.play(following(new Map([[0, act]])));
      for (const { act: actor, operation } of trace) this.#meetings.learn(actor, operation);
    }
  }

  /** @param isWhole whether acts change before every operation, also where that changes nothing */
  async play(choose: Choose, isWhole = false): Promise<Trace> {
    const scheduler = new Scheduler(
      (act, operation) => isWhole || this.#meetings.isOne(act, operation),
    );
    const stage = new Stage((operation) => scheduler.point(operation));
    const { machine } = stage.world;
    names = new Map();
    try {
      await stage.world.open();
      await this.#scenario.before(stage);
      machine.gate = stage.point;
      await scheduler.run(
        this.#scenario.acts.map((act) => () => act(stage)),
        choose,
      );
      machine.gate = undefined;
      await check(stage);
      await stage.world.end();
    } catch (cause) {
      const schedule = `${this.#name}: ${formatSwitches(scheduler.trace)}`;
      throw new Error(`INGOT_SCHEDULE='${schedule}'`, { cause });
    }
    return scheduler.trace;
  }
}

const { scenario, preemptions, seeds, firstSeed, schedule } = workerData as PlayOrder;
const plays = new Plays(scenario);
const report = { schedules: 0, byChance: 0, points: 0 };
await plays.rehearse();
if (schedule !== undefined) {
  await plays.play(following(parseSwitches(schedule)));
} else {
  report.schedules = await explore(preemptions, async (switches) => {
    const trace = await plays.play(following(switches));
    if (switches.size === 0)
      report.points = trace.filter(({ isPreemptible }) => isPreemptible).length;
    return trace;
  });
  for (let seed = firstSeed; seed < firstSeed + seeds; seed++) {
    await plays.play(chosenBy(seed, 1 + (seed % 12)), true);
    report.byChance += 1;
  }
}
parentPort?.postMessage(report);
