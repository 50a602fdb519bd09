/** What leaves the outbox on a medium, comes in from one, or is copied: the main thread's side. */
import type { Advance, EpochId, EpochState, ForeignEpoch, Gap, Lane, OutboxMoves, Stored } from '../daemon/ports.ts'
import { GatewayError } from '../daemon/errors.ts'
import { GroupEncoder } from './frames.ts'
import type { Link } from './link.ts'
import type { ForeignGroup } from './protocol.ts'
import { storedMessages } from './stored-messages.ts'

type Open = Pick<Link, 'ask' | 'post'>

export class WorkerMoves implements OutboxMoves {
  readonly #open: () => Open
  readonly #draw: () => EpochId

  constructor(open: () => Open, draw: () => EpochId) {
    this.#open = open
    this.#draw = draw
  }

  closeEpoch(): Promise<readonly EpochState[]> {
    return this.#open().ask({ kind: 'close-epoch', next: this.#draw() })
  }

  async peek(lane: Lane, position: number, last: number, maxBytes: number): Promise<readonly Stored[]> {
    if (position >= last) return []
    const answer = await this.#open().ask({ kind: 'peek', lane, position, maxBytes })
    return answer === undefined ? [] : storedMessages(answer).filter((stored) => stored.position <= last)
  }

  keep(ends: readonly { readonly lane: Lane; readonly position: number }[]): void {
    this.#open().post({ kind: 'keep', ends })
  }

  moveOut(ends: readonly Advance[]): Promise<boolean> {
    return this.#open().ask({ kind: 'move-out', ends })
  }

  async bringIn(epochs: readonly ForeignEpoch[], lane: Lane, messages: readonly Stored[]): Promise<void> {
    await this.#open().ask({ kind: 'bring-in', epochs, groups: groupsOf(lane, messages) })
  }

  gaps(): Promise<readonly Gap[]> {
    return this.#open().ask({ kind: 'gaps' })
  }

  async copyTo(directory: string): Promise<void> {
    const refused = await this.#open().ask({ kind: 'copy', directory })
    if (refused === undefined) return
    throw new GatewayError(refused.kind, refused.message, refused.remedy === undefined ? {} : { remedy: refused.remedy })
  }
}

/** A row holds positions without a gap, of one epoch. */
function groupsOf(lane: Lane, messages: readonly Stored[]): ForeignGroup[] {
  const groups: ForeignGroup[] = []
  let encoder: GroupEncoder | undefined
  let head: Stored | undefined
  const close = (): void => {
    if (encoder !== undefined && head !== undefined)
      groups.push({ lane, epoch: head.epoch, first: head.position, facts: encoder.facts, frames: encoder.finish() })
  }
  for (const message of messages) {
    const follows = head !== undefined && message.epoch === head.epoch && message.position === head.position + (encoder?.facts.count ?? 0)
    if (!follows || encoder === undefined) {
      close()
      head = message
      encoder = new GroupEncoder()
    }
    if ('envelope' in message) encoder.add(message.envelope)
    else encoder.addInternal(message.internal)
  }
  close()
  return groups
}
