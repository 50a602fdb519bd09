/** A plan made ready to be sent: records, positions, and what is counted if it commits. */
import type { Clock } from '../clock.ts'
import type { Advance, EpochId, KafkaRecord, Lane, Positions } from '../ports.ts'
import type { Blame, Sent } from './blame.ts'
import type { Plan } from './plan.ts'
import type { ReadBack } from './readback.ts'
import { RecordMaker } from './record.ts'
import type { Delivered } from './state.ts'

export class Transaction {
  readonly records: readonly KafkaRecord[]
  readonly positions: Positions
  readonly delivered: Delivered

  readonly #plan: Plan

  constructor(
    plan: Plan,
    gatewayId: string,
    clock: Clock,
    boots: { bootOf(epoch: EpochId): string | undefined },
    readBack: ReadBack,
    blame: Blame,
  ) {
    const now = { wallMs: clock.wallMs(), bootMs: clock.bootMs(), bootId: clock.bootId, wallTrusted: clock.wallTrusted() }
    const maker = new RecordMaker(gatewayId, now, (epoch) => boots.bootOf(epoch))
    const records: KafkaRecord[] = []
    let redelivered = 0
    let payloadBytes = 0
    for (const { lane, records: planned } of plan.parts) {
      for (const { stored, topic, partition, bytes } of planned) {
        const redelivery = readBack.isDoubtful(lane, stored.epoch, stored.position, bytes)
        const record = maker.make(stored, lane, topic, partition, { redelivery, sendTime: blame.needsSendTime(lane, stored.position) })
        records.push(record)
        redelivered += redelivery ? 1 : 0
        payloadBytes += record.value.length
      }
    }
    this.#plan = plan
    this.records = records
    this.positions = positionsOf(plan)
    const lanes = Object.fromEntries(plan.parts.map((part): [Lane, number] => [part.lane, part.records.length]))
    this.delivered = { lanes, records: records.length, payloadBytes, redelivered }
  }

  /** What was sent, in order, for a look at who is to blame. */
  sent(): readonly Sent[] {
    const planned = this.#plan.parts.flatMap(({ lane, records }) => records.map((record) => ({ lane, record })))
    return planned.map(({ lane, record }, index) => ({ ...record, lane, timestampMs: this.records[index]?.timestampMs ?? 0 }))
  }
}

/** How far the outbox advances when the plan is done. */
export function advancesOf(plan: Plan): readonly Advance[] {
  return plan.parts.flatMap(({ lane, ends }) => [...ends].map(([epoch, position]) => ({ lane, epoch, position })))
}

/** Next positions, as they are committed with the records. */
function positionsOf(plan: Plan): Positions {
  const positions = new Map<EpochId, Map<Lane, number>>()
  for (const { lane, ends } of plan.parts) {
    for (const [epoch, position] of ends) {
      const lanes = positions.get(epoch) ?? new Map<Lane, number>()
      lanes.set(lane, position + 1)
      positions.set(epoch, lanes)
    }
  }
  return positions
}
