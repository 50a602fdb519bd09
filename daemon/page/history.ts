/** What the charts show: the last quarter of an hour, kept so that a page that is opened, or opened again, shows it. */

export const STEP_MS = 3_000
const POINTS_MAX = 300

/** Of one moment; rates per second. */
export interface Point {
  readonly atMs: number
  /** Monotonic ms: the wall's clock may jump. */
  readonly ms: number
  readonly in: number
  readonly out: number
  readonly shed: number
  /** Messages in the buffer. */
  readonly backlog: number
  readonly usedBytes: number
}

export class History {
  readonly #points: Point[] = []

  add(point: Point): void {
    this.#points.push(point)
    if (this.#points.length > POINTS_MAX) this.#points.shift()
  }

  /** The oldest first; at most 300. */
  points(): readonly Point[] {
    return this.#points
  }
}
