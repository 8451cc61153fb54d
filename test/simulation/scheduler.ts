import type { Process } from "./process.ts";
import type { Random } from "./random.ts";

/** Something that happens at a moment of true time: to the world (`process` null) or to one process. */
interface Wake {
  readonly at: number;
  /** Drawn, so that what is due at the same instant happens in an order of the seed's choosing. */
  readonly tie: number;
  readonly process: Process | null;
  readonly run: () => void;
}

/**
 * True time, in ms since the world began. Nothing in a schedule waits for anything but this: promises are resolved
 * one at a time, and the microtasks that one sets off come to rest before the next.
 */
export class Scheduler {
  now = 0;
  /** How many wakes have been served. */
  served = 0;
  /** Moves with each wake; equal schedules end with equal fingerprints. */
  fingerprint = 0;
  readonly #heap: Wake[] = [];

  constructor(readonly random: Random) {}

  at(at: number, run: () => void, process: Process | null = null): void {
    this.#push({ at: at < this.now ? this.now : at, tie: this.random.next(), process, run });
  }

  after(ms: number, run: () => void, process: Process | null = null): void {
    this.at(this.now + ms, run, process);
  }

  /** Serves wakes until `ended` says so or nothing is left. */
  async drive(ended: () => boolean): Promise<void> {
    while (this.#heap.length > 0 && !ended()) {
      const wake = this.#pop();
      const { process } = wake;
      if (process !== null && !process.takes(wake.run)) continue;
      this.now = wake.at;
      this.served++;
      this.fingerprint = (Math.imul(this.fingerprint, 31) + this.now + Math.floor(wake.tie * 65536)) | 0;
      wake.run();
      if (process !== null) await quiet();
    }
  }

  #push(wake: Wake): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(wake);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(wake, heap[parent] as Wake)) break;
      heap[i] = heap[parent] as Wake;
      i = parent;
    }
    heap[i] = wake;
  }

  #pop(): Wake {
    const heap = this.#heap;
    const top = heap[0] as Wake;
    const last = heap.pop() as Wake;
    const size = heap.length;
    if (size === 0) return top;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1] as Wake, heap[child] as Wake)) child++;
      if (!before(heap[child] as Wake, last)) break;
      heap[i] = heap[child] as Wake;
      i = child;
    }
    heap[i] = last;
    return top;
  }
}

function before(a: Wake, b: Wake): boolean {
  return a.at < b.at || (a.at === b.at && a.tie < b.tie);
}

/**
 * Resolves once no microtask is left: a tick that is asked for inside a microtask runs only when the queue of
 * microtasks is empty. Five times cheaper than a macrotask, and holds as long as the engine awaits nothing but promises.
 */
export function quiet(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}
