/** One write that an operator ordered, with its audit record in the same transaction. */
import { sleep } from '../../clock.ts'
import { GatewayError } from '../../errors.ts'
import type { Compare, KeyValue, Operation } from '../../patch/ports.ts'
import { EtcdFailure } from '../../patch/ports.ts'
import type { auditOf, FleetLink } from '../fleet-link.ts'

const TRIES = 3
const PAUSE_MS = 500
const NEVER = new AbortController().signal

export interface Write {
  readonly compare: readonly Compare[]
  readonly then: readonly Operation[]
  readonly audit: ReturnType<typeof auditOf>
}

/**
 * True when it stands in etcd; false when something that it rests on has changed. A write whose answer got lost is sent
 * again: its audit record tells whether the first one had arrived.
 */
export async function write({ etcd, clock }: FleetLink, { compare, then, audit }: Write): Promise<boolean> {
  const transaction = {
    compare: [...compare, { key: audit.key, create: 0 }],
    then: [...then, { put: audit.key, value: audit.value }],
    otherwise: [{ get: audit.key }],
  }
  for (let left = TRIES; ; left -= 1) {
    try {
      const { succeeded, answers } = await etcd.transact(transaction)
      return succeeded || answers[0]?.entries.length === 1
    } catch (error) {
      if (!(error instanceof EtcdFailure) || error.reason !== 'unavailable' || left <= 1) throw error
      await sleep(clock, PAUSE_MS, NEVER)
    }
  }
}

const LOOKS = 8

/** Looks, decides and writes; again when somebody else was faster. `decide` gives `undefined` when nothing is to be done. */
export async function writeInView<S, T>(
  link: FleetLink,
  look: () => Promise<S>,
  decide: (seen: S) => { readonly write?: Write; readonly answer: T },
): Promise<T> {
  for (let left = LOOKS; left > 0; left -= 1) {
    const { write: ordered, answer } = decide(await look())
    if (ordered === undefined || (await write(link, ordered))) return answer
  }
  throw new GatewayError('transient', `others changed the same thing ${LOOKS} times meanwhile; nothing was written`, {
    remedy: 'look at it with `edgectl patch status`, and try again',
  })
}

export function only(entries: readonly KeyValue[] | undefined): KeyValue | undefined {
  return entries?.[0]
}
