import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { Pace, type PaceSettings } from '../../daemon/relay/pace.ts'
import { FakeRandom } from '../fakes/clock.ts'

const SETTINGS: PaceSettings = { maxBytes: 4 << 20, lingerMs: 500, perSecond: 2, uplinkBytesPerSecond: Infinity }
const KIB = 1_024

interface LinkModel {
  readonly bytesPerMs: number
  readonly roundTripMs: number
  readonly loss: number
}

/** A transaction of nine requests over a thin, lossy link; the client's timeouts strike where they would. */
class ModelLink {
  nowMs = 0
  deliveredBytes = 0
  commits = 0
  failures = 0
  failuresInARow = 0
  mostFailuresInARow = 0
  longestMs = 0
  readonly #random = new FakeRandom(7)
  readonly #pace: Pace
  #link: LinkModel
  #timeouts: ReturnType<Pace['timeouts']>

  constructor(pace: Pace, link: LinkModel) {
    this.#pace = pace
    this.#link = link
    this.#timeouts = pace.timeouts()
    this.#begin()
  }

  become(link: LinkModel): void {
    this.#link = link
  }

  /** Sends what the pace allows of records of this size. */
  transact(recordBytes: number): void {
    const count = Math.max(1, Math.floor(this.#pace.sizeBytes() / recordBytes))
    const bytes = count * recordBytes
    this.#pace.started(this.nowMs, bytes)
    const requests = Array.from({ length: 9 }, (_, index) => this.#requestMs(index === 6 ? bytes : 100))
    const failed = requests.findIndex((ms) => ms > this.#timeouts.requestMs)
    const takenMs = requests.slice(0, failed < 0 ? 9 : failed).reduce((sum, ms) => sum + ms, failed < 0 ? 0 : this.#timeouts.requestMs)
    const isLate = takenMs > this.#timeouts.transactionMs
    this.nowMs += takenMs
    this.longestMs = Math.max(this.longestMs, takenMs)
    if (failed < 0 && !isLate) return this.#committed(bytes, takenMs)
    this.failures += 1
    this.failuresInARow += 1
    this.mostFailuresInARow = Math.max(this.mostFailuresInARow, this.failuresInARow)
    this.#pace.failed(bytes, takenMs, this.#timeouts)
    this.#begin()
  }

  #committed(bytes: number, takenMs: number): void {
    this.#pace.committed(bytes, takenMs)
    this.deliveredBytes += bytes
    this.commits += 1
    this.failuresInARow = 0
  }

  /** InitProducerId and the positions. */
  #begin(): void {
    this.#timeouts = this.#pace.timeouts()
    for (let question = 0; question < 3; question += 1) {
      const askedMs = this.#requestMs(100) + this.#requestMs(100) + this.#requestMs(100)
      this.nowMs += askedMs
      this.#pace.asked(askedMs)
    }
  }

  #requestMs(bytes: number): number {
    let ms = this.#link.roundTripMs + bytes / this.#link.bytesPerMs
    const packets = Math.ceil(bytes / 1_400) + 1
    for (let packet = 0; packet < packets; packet += 1) {
      // Half of the losses are repaired by a fast retransmission, half by a timeout.
      if (this.#random.unit() < this.#link.loss) ms += this.#random.unit() < 0.5 ? this.#link.roundTripMs : 3 * this.#link.roundTripMs
    }
    return ms
  }
}

const THIN: LinkModel = { bytesPerMs: 8, roundTripMs: 1_000, loss: 0.02 }

describe('pace', () => {
  it('log path 24: 64 kbit/s, 1 s round trip, 2 % loss: transactions fit, and most of the link is used', () => {
    const pace = new Pace(SETTINGS)
    const link = new ModelLink(pace, THIN)
    while (link.nowMs < 2 * 3_600_000) link.transact(350)
    const rate = link.deliveredBytes / link.nowMs
    assert.ok(rate > THIN.bytesPerMs * 0.35, `only ${rate.toFixed(2)} bytes/ms went through`)
    assert.ok(link.mostFailuresInARow <= 3, `${link.mostFailuresInARow} transactions in a row failed`)
    assert.ok(link.failures <= link.commits * 0.02, `${link.failures} of ${link.commits} failed`)
    assert.ok(link.longestMs < 120_000, `a transaction took ${link.longestMs} ms`)
  })

  it('log path 24: a record that alone takes longer than the first timeouts goes through all the same', () => {
    const pace = new Pace(SETTINGS)
    const link = new ModelLink(pace, THIN)
    for (let tries = 0; link.commits < 3; tries += 1) {
      assert.ok(tries < 12, 'the large record never went through')
      link.transact(900 * KIB)
    }
  })

  it('log path 24: a link that becomes a hundred times slower is followed, and the way back too', () => {
    const pace = new Pace(SETTINGS)
    const fast = { bytesPerMs: 5_000, roundTripMs: 20, loss: 0 }
    const link = new ModelLink(pace, fast)
    for (let count = 0; count < 20; count += 1) link.transact(350)
    const fastSize = pace.sizeBytes()
    link.become(THIN)
    for (let count = 0; count < 40; count += 1) link.transact(350)
    assert.ok(link.mostFailuresInARow < 12, `${link.mostFailuresInARow} transactions in a row failed`)
    assert.ok(pace.sizeBytes() < 200 * KIB, `still ${pace.sizeBytes()} bytes`)
    assert.ok(pace.sizeBytes() > 8 * KIB, `only ${pace.sizeBytes()} bytes`)
    link.become(fast)
    for (let count = 0; count < 40; count += 1) link.transact(350)
    assert.ok(pace.sizeBytes() > fastSize / 2, `${pace.sizeBytes()} after ${fastSize}`)
  })

  it('log path 15: a fast link soon gets full transactions', () => {
    const pace = new Pace(SETTINGS)
    const link = new ModelLink(pace, { bytesPerMs: 10_000, roundTripMs: 2, loss: 0 })
    for (let count = 0; count < 8; count += 1) link.transact(350)
    assert.equal(pace.sizeBytes(), 4 << 20)
  })

  it('log path 15: after an outage it begins small again, so that a fleet that returns does not flood', () => {
    const pace = new Pace(SETTINGS)
    const link = new ModelLink(pace, { bytesPerMs: 10_000, roundTripMs: 2, loss: 0 })
    for (let count = 0; count < 8; count += 1) link.transact(350)
    pace.resumed(10_000)
    assert.equal(pace.sizeBytes(), 4 << 20)
    pace.resumed(60_000)
    assert.equal(pace.sizeBytes(), 256 * KIB)
  })

  it('two transactions a second while little waits; a full one goes at once', () => {
    const pace = new Pace(SETTINGS)
    const little = { messages: 3, bytes: 900, sinceMs: 10_000, cut: false }
    assert.equal(pace.delayMs(10_000, little), 500)
    assert.equal(pace.delayMs(10_400, little), 100)
    assert.equal(pace.delayMs(10_500, little), 0)
    pace.started(10_500, 900)
    assert.equal(pace.delayMs(10_600, { ...little, sinceMs: 10_500 }), 400)
    assert.equal(pace.delayMs(10_600, { ...little, sinceMs: 10_500, bytes: 300 * KIB }), 0)
    assert.equal(pace.delayMs(10_600, { ...little, sinceMs: 10_500, messages: 10_000 }), 0)
    assert.equal(pace.delayMs(10_600, { ...little, sinceMs: 10_500, cut: true }), 0)
  })

  it('log path 15: the byte budget holds in every window', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2_000, max: 500_000 }), fc.array(fc.nat(400_000), { minLength: 20, maxLength: 60 }), (rate, wants) => {
        const pace = new Pace({ ...SETTINGS, uplinkBytesPerSecond: rate })
        const sent: { atMs: number; bytes: number }[] = []
        let nowMs = 0
        for (const want of wants) {
          const waiting = { messages: 1, bytes: want, sinceMs: nowMs, cut: true }
          nowMs += pace.delayMs(nowMs, waiting)
          assert.ok(pace.delayMs(nowMs, waiting) < 0.001)
          const bytes = Math.min(want, pace.sizeBytes())
          pace.started(nowMs, bytes)
          sent.push({ atMs: nowMs, bytes })
        }
        for (const [first, { atMs }] of sent.entries()) {
          let bytes = 0
          for (const one of sent.slice(first)) {
            bytes += one.bytes
            // A burst of one second, and the transaction that ends in debt.
            assert.ok(bytes <= (rate * (one.atMs - atMs)) / 1_000 + rate * 3 + 1, `${bytes} bytes in ${one.atMs - atMs} ms at ${rate}/s`)
          }
        }
      }),
      { numRuns: 50 },
    )
  })

  it('the byte budget counts what is on the wire once the adapter says it: compression is not paid twice', () => {
    const pace = new Pace({ ...SETTINGS, uplinkBytesPerSecond: 10_000 })
    let nowMs = 0
    let sent = 0
    for (let count = 0; count < 200; count += 1) {
      nowMs += pace.delayMs(nowMs, { messages: 1, bytes: 1 << 20, sinceMs: 0, cut: true })
      const bytes = pace.sizeBytes()
      pace.started(nowMs, bytes)
      pace.committed(bytes, 200)
      pace.metered(bytes, bytes / 5 + 1_200)
      sent += bytes
    }
    const rate = (sent * 1_000) / nowMs
    assert.ok(rate > 35_000 && rate < 55_000, `${rate} plain bytes/s at 10,000 wire bytes/s and a ratio of 5`)
  })

  it('on a long way a transaction takes few epochs, since each costs round trips', () => {
    const pace = new Pace(SETTINGS)
    assert.equal(pace.epochs(), 8)
    pace.asked(4)
    assert.equal(pace.epochs(), 8)
    for (let count = 0; count < 30; count += 1) pace.asked(4_000)
    assert.equal(pace.epochs(), 1)
  })

  it('timeouts stay within what brokers take, and a transaction outlasts its requests', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(4 << 20), fc.nat(600_000), fc.boolean()), { maxLength: 60 }), (history) => {
        const pace = new Pace(SETTINGS)
        for (const [bytes, ms, ok] of history) {
          if (ok) pace.committed(bytes, ms)
          else pace.failed(bytes, ms, pace.timeouts())
          const { requestMs, transactionMs } = pace.timeouts()
          assert.ok(requestMs >= 30_000 && requestMs <= 300_000)
          assert.ok(transactionMs >= 60_000 && transactionMs <= 600_000 && transactionMs >= 2 * requestMs)
          assert.ok(pace.sizeBytes() >= 1 && pace.sizeBytes() <= 4 << 20)
        }
      }),
      { numRuns: 100 },
    )
  })
})
