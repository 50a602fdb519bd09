import type { RelayHold } from '../relay/relay.ts'

/** Who may stop the relay; the first of them speaks. */
const ORDER = ['identity', 'import', 'export'] as const
type Holder = (typeof ORDER)[number]

/** Several reasons for which nothing may leave the box; it goes on when none is left. */
export class RelayHolds {
  readonly #relay: { hold(why: RelayHold | undefined): void }
  readonly #reasons = new Map<Holder, RelayHold>()

  constructor(relay: { hold(why: RelayHold | undefined): void }) {
    this.#relay = relay
  }

  set(holder: Holder, why: RelayHold | undefined): void {
    if (why === undefined) this.#reasons.delete(holder)
    else this.#reasons.set(holder, why)
    this.#relay.hold(ORDER.map((name) => this.#reasons.get(name)).find((reason) => reason !== undefined))
  }
}
