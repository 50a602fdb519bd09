/** An import on its way in: its lines go into a buffer of its own, which counts only once it is whole. */
import { GatewayError, messageOf as wordsOf } from '../../errors.ts'
import { EXPORT_FORMAT, type ExportHead, type ExportSum } from '../../move/file.ts'
import { messageOf, unsealed, type LaneMessage } from '../../move/lines.ts'
import type { Lane, OutboxMoves, Stored } from '../../ports.ts'
import { TopicTemplate } from '../../relay/topic-template.ts'

const GATEWAY = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/
const PREFIX = /^[A-Za-z0-9._-]{1,100}$/
const ID = /^[0-9a-f]{16}$/

/** Throws `rejected` unless a gateway could have written the head, and this release can read it. */
export function checkedHead(value: unknown): ExportHead {
  const head = value as Partial<ExportHead> | null
  if (typeof head !== 'object' || head === null || typeof head.edgeGatewayExport !== 'number')
    throw new GatewayError('rejected', 'this is no export of an edge gateway')
  if (head.edgeGatewayExport > EXPORT_FORMAT)
    throw new GatewayError('rejected', `a newer release wrote this export (format ${head.edgeGatewayExport})`, {
      remedy: 'install that release here, or import it on a box that has it',
    })
  const sound =
    ID.test(head.id ?? '') &&
    GATEWAY.test(head.gateway ?? '') &&
    PREFIX.test(head.prefix ?? '') &&
    Array.isArray(head.epochs) &&
    head.epochs.every(isEpoch)
  if (!sound) throw new GatewayError('rejected', "the export's first line is not what a gateway writes")
  checkTopic(head as ExportHead)
  return head as ExportHead
}

function checkTopic({ topic, allowedTopics }: ExportHead): void {
  try {
    if (topic !== undefined) new TopicTemplate(topic, allowedTopics)
  } catch (error) {
    throw new GatewayError('rejected', `the export names no topic that there can be: ${wordsOf(error)}`, { cause: error })
  }
}

function isEpoch(epoch: unknown): boolean {
  const { epoch: id, bootId, createdMs, touchedMs } = (epoch ?? {}) as Record<string, unknown>
  return ID.test(String(id)) && typeof bootId === 'string' && Number.isFinite(createdMs) && Number.isFinite(touchedMs)
}

export class ArrivingImport {
  readonly head: ExportHead
  readonly #moves: OutboxMoves
  #messages = 0

  constructor(head: ExportHead, moves: OutboxMoves) {
    this.head = head
    this.#moves = moves
  }

  /** Lines with messages; all others are left out. In the order of the file. Throws `rejected`. */
  async add(text: string): Promise<void> {
    const runs: { readonly lane: Lane; readonly messages: Stored[] }[] = []
    for (const line of text.split('\n')) {
      const message = line === '' ? undefined : this.#read(line)
      if (message === undefined) continue
      const run = runs.at(-1)
      if (run?.lane === message.lane) run.messages.push(message.stored)
      else runs.push({ lane: message.lane, messages: [message.stored] })
      this.#messages += 1
    }
    for (const { lane, messages } of runs) await this.#moves.bringIn(this.head.epochs, lane, messages)
  }

  /** Throws `rejected` when what came is not what the file said. */
  check({ messages }: ExportSum): void {
    if (this.#messages === messages) return
    throw new GatewayError('rejected', `${this.#messages} of ${messages} messages arrived`, { remedy: 'import the file again' })
  }

  #read(line: string): LaneMessage | undefined {
    const document = unsealed(line)
    return 'lane' in document ? messageOf(document) : undefined
  }
}
