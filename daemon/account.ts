/**
 * The ledger with its left side from the parsers: what the sources handed over is counted by the intake, apart from
 * what the store counts as outcomes. If a message ever went missing between the two, the equation of G4 would not
 * hold, and `edgectl ledger` would say by how much.
 */
import type { Component } from './component.ts'
import type { Counted, Ledger, LedgerLine, LedgerTotals } from './ports.ts'

export class Account implements Ledger, Component {
  readonly name = 'account'
  readonly #ledger: Ledger
  readonly #parsed: () => Counted
  #before: Counted = { messages: 0, bytes: 0 }

  /** `parsed`: handed over by the sources since the start. */
  constructor(ledger: Ledger, parsed: () => Counted) {
    this.#ledger = ledger
    this.#parsed = parsed
  }

  /** Runs after the store's start and before any source's. */
  async start(): Promise<void> {
    this.#before = (await this.#ledger.totals()).received
  }

  async stop(): Promise<void> {
    // Nothing to end; the store keeps what counts.
  }

  async totals(): Promise<LedgerTotals> {
    const totals = await this.#ledger.totals()
    // Read in the same turn of the loop as the store's answer, so that no message can come between the two.
    const parsed = this.#parsed()
    const received = { messages: this.#before.messages + parsed.messages, bytes: this.#before.bytes + parsed.bytes }
    return { ...totals, received }
  }

  lines(limit: number): Promise<readonly LedgerLine[]> {
    return this.#ledger.lines(limit)
  }
}
