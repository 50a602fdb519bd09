/** What the relay makes of a failure of Kafka's: decided once, here. */
import { GatewayError, messageOf } from '../errors.ts'
import type { KafkaFailure } from '../ports.ts'

/**
 * - `transient`: again, with backoff, for ever.
 * - `alarm`: a person must act; again, slowly, so that it heals without a restart.
 * - `fenced`: another life of our transactional id began.
 * - `refused`: a record of the transaction can never be taken as it is.
 */
export type FailureClass = 'transient' | 'alarm' | 'fenced' | 'refused'

/** A failure of the Kafka port; whatever else the relay's loop throws is fatal. */
export class LinkFailure extends Error {
  readonly class: FailureClass
  readonly remedy: string | undefined
  readonly refused: KafkaFailure['refused']
  /** The transaction may have committed. */
  readonly inDoubt: boolean

  constructor(failure: {
    class: FailureClass
    message: string
    remedy?: string | undefined
    refused?: KafkaFailure['refused']
    inDoubt: boolean
    cause?: unknown
  }) {
    super(failure.message, { cause: failure.cause })
    this.name = 'LinkFailure'
    this.class = failure.class
    this.remedy = failure.remedy
    this.refused = failure.refused
    this.inDoubt = failure.inDoubt
  }

  /** Kafka takes no record of that time. The port has no code for it; its words are held by the contract suite. */
  get aboutTime(): boolean {
    return this.class === 'refused' && /timestamp/i.test(`${this.message} ${messageOf(this.cause)}`)
  }
}

/** Throws on what the port calls fatal. What no port declared is taken for the worst that is not fatal: unknown fate. */
export function linkFailure(error: unknown): LinkFailure {
  if (error instanceof LinkFailure) return error
  if (!(error instanceof GatewayError))
    return new LinkFailure({ class: 'transient', message: messageOf(error), inDoubt: true, cause: error })
  if (error.kind === 'fatal') throw error
  const { alarm, refused, fate } = error as Partial<KafkaFailure>
  return new LinkFailure({
    class: classOf(error, alarm === true),
    message: error.message,
    remedy: error.remedy,
    refused,
    inDoubt: fate !== 'none',
    cause: error,
  })
}

function classOf(error: GatewayError, alarm: boolean): FailureClass {
  if (error.kind === 'fenced') return 'fenced'
  if (alarm) return 'alarm'
  return error.kind === 'rejected' ? 'refused' : 'transient'
}
