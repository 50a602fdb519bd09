/**
 * kafkajs 2.2.4, with two of its modules replaced and three of its habits mended before it loads. All other files of this
 * folder take it from here.
 *
 * Its own encoder makes about twelve buffers of 512 bytes for each record, and its grouping copies what it has
 * gathered at each record: at 10,000 records a second the two were 75 % of what the whole gateway allocated, and
 * filled 200 MB with garbage. The version is pinned, and a test holds our bytes against those of the original.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import { createRequire } from 'node:module'
import type { KafkaRecord } from '../../daemon/ports.ts'
import { CONCURRENT_TRANSACTIONS } from './codes.ts'
import { produceRequest, type ProduceRequest, type ProduceRequestMaker } from './produce-request.ts'

const load = createRequire(import.meta.url)

replace('kafkajs/src/protocol/requests/produce/v3/request', (original): ProduceRequestMaker => {
  const make = original as ProduceRequestMaker
  // A record of kafkajs' own shape comes from another user of the library in this process: a test.
  return (request) => (carriesRecords(request) ? produceRequest(request) : make(request))
})
replace('kafkajs/src/producer/groupMessagesPerPartition', () => groupByPartition)
lookOnlyAtWhatWaits(load('kafkajs/src/network/requestQueue') as { prototype: RequestQueue })
rememberCoordinators(
  load('kafkajs/src/cluster') as { prototype: Cluster },
  load('kafkajs/src/network/connection') as { prototype: Connection },
)
listEndsAsAsked(load('kafkajs/src/broker') as { prototype: Broker })

const kafkajs = load('kafkajs') as typeof import('kafkajs')
export default kafkajs

function replace(path: string, replacement: (original: unknown) => unknown): void {
  const original: unknown = load(path)
  const module = load.cache[load.resolve(path)]
  if (module === undefined) throw new Error(`${path} is not where kafkajs 2.2.4 has it`)
  module.exports = replacement(original)
}

function carriesRecords({ topicData }: ProduceRequest): boolean {
  return topicData.every(({ partitions }) => partitions.every(({ messages }) => messages.every(({ headers }) => Array.isArray(headers))))
}

interface Grouping {
  readonly topic: string
  readonly partitionMetadata: readonly unknown[]
  readonly messages: readonly KafkaRecord[]
  readonly partitioner: (choice: object) => number
}

function groupByPartition({ topic, partitionMetadata, messages, partitioner }: Grouping): Record<number, KafkaRecord[]> {
  const groups: Record<number, KafkaRecord[]> = {}
  if (partitionMetadata.length === 0) return groups
  for (const message of messages) (groups[partitioner({ topic, partitionMetadata, message })] ??= []).push(message)
  return groups
}

interface RequestQueue {
  /** Wall ms until when the broker throttles; -1 at first, and in the past afterwards. */
  throttledUntil: number
  throttleCheckTimeoutId: NodeJS.Timeout | null
  readonly pending: readonly unknown[]
  checkPendingRequests: (this: RequestQueue) => void
  scheduleCheckPendingRequests: (this: RequestQueue) => void
}

/** How long it waits before it looks at requests that had to queue, ms; as kafkajs has it. */
const LOOK_MS = 10

/**
 * kafkajs looks at the requests that wait, again and again, even when none does, and lets what is left of the last
 * throttling decide when: mostly a negative time, of which Node warns and makes 1 ms. An idle gateway spent most of
 * its time on it. A request that has to wait sets the timer itself.
 */
function lookOnlyAtWhatWaits({ prototype }: { prototype: RequestQueue }): void {
  prototype.scheduleCheckPendingRequests = function () {
    if (this.throttleCheckTimeoutId !== null || this.pending.length === 0) return
    const left = this.throttledUntil - Date.now()
    this.throttleCheckTimeoutId = setTimeout(
      () => {
        this.throttleCheckTimeoutId = null
        this.checkPendingRequests()
      },
      left > 0 ? left : LOOK_MS,
    )
  }
}

interface Cluster {
  findGroupCoordinatorMetadata: (this: Cluster, wanted: { readonly groupId: string; readonly coordinatorType: number }) => Promise<object>
}

interface Connection {
  send: (this: Connection, request: object) => Promise<unknown>
}

/**
 * kafkajs asks who the coordinator is before each of the four requests that go to one: four of the nine round trips
 * of a transaction. The answer holds until any request fails: then all are asked for again, in this life or the next.
 */
function rememberCoordinators(cluster: { prototype: Cluster }, connection: { prototype: Connection }): void {
  let failures = 0
  const { send } = connection.prototype
  connection.prototype.send = async function (request) {
    try {
      return await send.call(this, request)
    } catch (error) {
      // The coordinator's own word that it is still at work.
      if ((error as { code?: unknown }).code !== CONCURRENT_TRANSACTIONS) failures += 1
      throw error
    }
  }
  const { findGroupCoordinatorMetadata: ask } = cluster.prototype
  const known = new WeakMap<Cluster, Map<string, { readonly answer: object; readonly failures: number }>>()
  cluster.prototype.findGroupCoordinatorMetadata = async function (wanted) {
    const answers = known.get(this) ?? new Map<string, { readonly answer: object; readonly failures: number }>()
    known.set(this, answers)
    const key = `${wanted.coordinatorType} ${wanted.groupId}`
    const before = answers.get(key)
    if (before?.failures === failures) return before.answer
    const answer = await ask.call(this, wanted)
    answers.set(key, { answer, failures })
    return answer
  }
}

interface Broker {
  listOffsets: (this: Broker, request: { readonly isolationLevel?: number }) => Promise<unknown>
}

const READ_UNCOMMITTED = 0
const undecidedToo = new AsyncLocalStorage<true>()

/** What kafkajs asks meanwhile for the ends of topics, it is told with the records of transactions that are open. */
export function withUndecided<Result>(ask: () => Promise<Result>): Promise<Result> {
  return undecidedToo.run(true, ask)
}

/** kafkajs's admin has no word for it: it always asks for the last stable offset. */
function listEndsAsAsked({ prototype }: { prototype: Broker }): void {
  const { listOffsets } = prototype
  prototype.listOffsets = function (request) {
    return listOffsets.call(this, undecidedToo.getStore() === true ? { ...request, isolationLevel: READ_UNCOMMITTED } : request)
  }
}
