import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { SeededNumbers } from './simulated-disk.ts';

/** Turns of the event loop after which acts that ask for nothing count as stuck. */
const MOST_TURNS = 100;

/** An operation that an act wants to do next. */
interface Waiting {
  readonly name: string;
  readonly go: () => void;
}

interface Act {
  readonly number: number;
  /** More than one where the act does several things at once; they go in the order in which they came. */
  readonly waiting: Waiting[];
  isOver: boolean;
}

/** A place of a schedule where an act goes on. */
interface Step {
  readonly act: number;
  readonly operation: string;
  /** All that could have gone on. */
  readonly enabled: readonly number[];
  /** Who goes on where nobody interferes: the act that went before, while it can. */
  readonly usual: number;
  /** Whether somebody else in its place would be a preemption: `usual` could go on. */
  readonly isPreemptible: boolean;
}

/** What a schedule was. */
export type Trace = readonly Step[];

/** At which steps another act goes on than the usual one, and which. */
export type Switches = ReadonlyMap<number, number>;

/** Decides who goes on. */
type Choose = (at: number, step: Omit<Step, 'act'>) => number;

/** Follows an act through everything that it waits for. */
const currentAct = new AsyncLocalStorage<Act>();

/**
 * Lets one act at a time do its next operation. What an act does between two operations happens at
 * once; an act that waits for another one asks for nothing.
 */
export class Scheduler {
  readonly #isMeeting: (act: number, operation: string) => boolean;
  readonly #trace: Step[] = [];

  /** @param isMeeting whether an operation may meet another act: only before those acts change */
  constructor(isMeeting: (act: number, operation: string) => boolean) {
    this.#isMeeting = isMeeting;
  }

  /** What was done so far. */
  get trace(): Trace {
    return this.#trace;
  }

  /** Waits until the act that asks may do this operation. Outside of acts everybody may. */
  async point(operation: string): Promise<void> {
    const act = currentAct.getStore();
    if (act === undefined) return;
    const turn = Promise.withResolvers<void>();
    act.waiting.push({ name: operation, go: turn.resolve });
    await turn.promise;
  }

  /**
   * Does acts beside each other until all are over. Once for each scheduler.
   *
   * @throws AssertionError when nobody can go on; whatever an act throws
   */
  async run(works: readonly (() => Promise<void>)[], choose: Choose): Promise<void> {
    const acts: Act[] = works.map((_, number) => ({ number, waiting: [], isOver: false }));
    const trace = this.#trace;
    const failures: unknown[] = [];
    for (const [number, work] of works.entries()) {
      const act = acts[number] as Act;
      void currentAct.run(act, async () => {
        try {
          await this.point('begins');
          await work();
        } catch (thrown) {
          failures.push(thrown);
        } finally {
          act.isOver = true;
        }
      });
    }
    for (let last = -1; await this.#isAnybodyWaiting(acts, failures); ) {
      const enabled = acts.flatMap(({ waiting }, index) => (waiting.length > 0 ? [index] : []));
      const canGoOn = enabled.includes(last);
      const usual = canGoOn ? last : (enabled[0] as number);
      const operation = acts[usual]?.waiting[0]?.name ?? '';
      const isPreemptible = canGoOn && this.#isMeeting(usual, operation);
      const mayChange = !canGoOn || isPreemptible;
      const step = { operation, enabled: mayChange ? enabled : [usual], usual, isPreemptible };
      const act = choose(trace.length, step);
      const next = acts[act]?.waiting.shift();
      assert.ok(next !== undefined, `act ${act} cannot go on at step ${trace.length}`);
      trace.push({ ...step, act, operation: next.name });
      last = act;
      next.go();
    }
    if (failures.length > 0) throw failures[0];
  }

  /** Lets all go on as far as they can. @returns whether somebody asks for an operation */
  async #isAnybodyWaiting(acts: readonly Act[], failures: readonly unknown[]): Promise<boolean> {
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      await new Promise((resolve) => setImmediate(resolve));
      if (failures.length > 0) return false;
      if (acts.some(({ waiting }) => waiting.length > 0)) return true;
      if (acts.every(({ isOver }) => isOver)) return false;
    }
    const stuck = acts.flatMap(({ number, isOver }) => {
      const last = this.#trace.findLast(({ act }) => act === number)?.operation;
      return isOver ? [] : [`act ${number} behind ${last}`];
    });
    assert.fail(`nobody can go on: ${stuck.join(', ')}`);
  }
}

/** @returns the number of the act that asks; undefined outside of acts */
export function actor(): number | undefined {
  return currentAct.getStore()?.number;
}

/** Follows a schedule: the usual act goes on everywhere else. */
export function following(switches: Switches): Choose {
  return (at, { usual }) => switches.get(at) ?? usual;
}

/** Chooses by a seed: at one of `oneIn` operations another act goes on. */
export function chosenBy(seed: number, oneIn: number): Choose {
  const numbers = new SeededNumbers(seed);
  return (_at, { usual, enabled, isPreemptible }) => {
    if (isPreemptible && numbers.below(oneIn) > 0) return usual;
    return enabled[numbers.below(enabled.length)] as number;
  };
}

/**
 * Finds all schedules with at most so many preemptions, depth first: each is played once, and what
 * it met tells which ones follow it.
 *
 * @param play plays one schedule
 * @returns how many there are
 */
export async function explore(
  mostPreemptions: number,
  play: (switches: Switches) => Promise<Trace>,
): Promise<number> {
  const open: { readonly switches: Switches; readonly preemptions: number }[] = [
    { switches: new Map(), preemptions: 0 },
  ];
  let played = 0;
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { switches, preemptions } = next;
    const trace = await play(switches);
    played += 1;
    const from = Math.max(-1, ...switches.keys()) + 1;
    for (const [at, { enabled, usual, isPreemptible }] of trace.entries()) {
      const used = preemptions + (isPreemptible ? 1 : 0);
      if (at < from || used > mostPreemptions) continue;
      for (const act of enabled) {
        if (act !== usual)
          open.push({ switches: new Map(switches).set(at, act), preemptions: used });
      }
    }
  }
  return played;
}

/** @returns the schedule as text that {@link parseSwitches} takes, such as `12:1 40:0` */
export function formatSwitches(trace: Trace): string {
  return trace.flatMap(({ act, usual }, at) => (act === usual ? [] : [`${at}:${act}`])).join(' ');
}

/** Reads what {@link formatSwitches} wrote. */
export function parseSwitches(text: string): Switches {
  const parts = text.split(' ').filter((part) => part !== '');
  return new Map(parts.map((part) => part.split(':').map(Number) as [number, number]));
}
