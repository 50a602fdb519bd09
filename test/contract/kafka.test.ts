import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { before, describe, it } from 'node:test'
import type { Lane, ProducerLife } from '../../daemon/ports.ts'
import { KAFKA_API, serviceScope } from '../services/index.ts'
import type { KafkaService, KafkaVerdict, Proxy } from '../services/index.ts'
import {
  begin,
  beginPatiently,
  brokerOptions,
  byPartition,
  createTopic,
  deliver,
  EPOCH,
  expected,
  failureOf,
  Faults,
  fresh,
  gateway,
  positionsAt,
  readCommitted,
  readFormatted,
  recordOf,
} from './kafka-kit.ts'

const scope = serviceScope()
let kafka: KafkaService
let proxy: Proxy
let faults: Faults

const life = (gatewayId: string): Promise<ProducerLife> => begin(gateway(kafka.endpoint, gatewayId))

async function topicOf(what: string, configs: Record<string, string> = {}): Promise<string> {
  const topic = fresh(what)
  await createTopic(kafka, topic, 2, configs)
  return topic
}

before(async () => {
  const started = await scope.kafkaBehindProxy(brokerOptions)
  kafka = started.kafka
  proxy = started.proxy
  faults = new Faults(proxy)
  await createTopic(kafka, 'edge.positions', 4)
  // The first life, and the first positions, make the broker create its internal topics.
  await createTopic(kafka, 'first', 2)
  await deliver(gateway(kafka.endpoint, 'first'), 'first', 2, 2)
})

describe('a fault at any request', () => {
  const apis = [
    'metadata',
    'findCoordinator',
    'initProducerId',
    'offsetFetch',
    'addOffsetsToTxn',
    'txnOffsetCommit',
    'addPartitionsToTxn',
    'produce',
    'endTxn',
  ] as const
  const verdicts: readonly KafkaVerdict[] = ['cut', 'cutAfterResponseSwallowed', 'dropResponse']

  for (const api of apis) {
    it(`${api}: cut before the broker, cut after it, and an answer that never comes, lose, double and reorder nothing`, async () => {
      await Promise.all(
        verdicts.map(async (verdict) => {
          const gatewayId = fresh(api)
          const topic = await topicOf(api)
          // Once while the life begins, if it is asked then, and once under way.
          let asked = 0
          const hits = new Set([0, 3])
          faults.set(gatewayId, (key) => (key === KAFKA_API[api] && hits.has(asked++) ? verdict : 'pass'))
          const failures = await deliver(gateway(kafka.endpoint, gatewayId), topic, 24, 4)
          faults.clear(gatewayId)
          assert.ok(failures.length > 0, `${verdict} had no effect`)
          assert.ok(
            failures.every((failure) => failure.kind === 'transient' && !failure.alarm),
            failures.map(String).join('; '),
          )
          assert.deepEqual(byPartition(await readCommitted(kafka, topic)), expected(24), `${api} ${verdict}`)
        }),
      )
    })
  }

  it('only an unanswered commit leaves the fate unknown, and the committed position then tells it', async () => {
    for (const [api, verdict, fate, next] of [
      [KAFKA_API.produce, 'cutAfterResponseSwallowed', 'none', undefined],
      [KAFKA_API.endTxn, 'cut', 'unknown', undefined],
      [KAFKA_API.endTxn, 'cutAfterResponseSwallowed', 'unknown', 5],
    ] as const) {
      const gatewayId = fresh('fate')
      const topic = await topicOf('fate')
      const old = await life(gatewayId)
      faults.set(gatewayId, (key) => (key === api ? verdict : 'pass'))
      const failure = await failureOf(old.transact([recordOf(topic, 0, 'a')], positionsAt(5)))
      faults.clear(gatewayId)
      assert.equal(failure.fate, fate)
      const now = await life(gatewayId)
      assert.equal((await now.committed(EPOCH)).get('normal'), next)
      assert.equal((await readCommitted(kafka, topic)).length, next === undefined ? 0 : 1)
      await Promise.all([old.close(0), now.close(1_000)])
    }
  })

  it('the read-back is right at once after each of 20 unanswered commits', async () => {
    const gatewayId = fresh('readback')
    const topic = await topicOf('readback')
    const seen: (number | undefined)[] = []
    for (let round = 1; round <= 20; round += 1) {
      const dying = await life(gatewayId)
      faults.set(gatewayId, (key) => (key === KAFKA_API.endTxn ? 'cutAfterResponseSwallowed' : 'pass'))
      await failureOf(dying.transact([recordOf(topic, round % 2, String(round))], positionsAt(round)))
      faults.clear(gatewayId)
      await dying.close(0)
      const next = await life(gatewayId)
      seen.push((await next.committed(EPOCH)).get('normal'))
      await next.close(1_000)
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 20 }, (_, i) => i + 1),
    )
  })
})

describe('an earlier life', () => {
  it('that died with an open transaction leaves nothing readable behind', async () => {
    const gatewayId = fresh('fenced')
    const topic = await topicOf('fenced')
    const old = await life(gatewayId)
    await old.transact([recordOf(topic, 0, 'before')], positionsAt(1))
    // It dies with an open transaction: its commit never reaches the broker.
    faults.set(gatewayId, (key) => (key === KAFKA_API.endTxn ? 'cut' : 'pass'))
    assert.equal((await failureOf(old.transact([recordOf(topic, 0, 'ghost')], positionsAt(2)))).fate, 'unknown')
    faults.clear(gatewayId)
    const now = await life(gatewayId)
    assert.equal((await now.committed(EPOCH)).get('normal'), 1)
    await now.transact([recordOf(topic, 0, 'after')], positionsAt(2))
    assert.deepEqual(
      (await readCommitted(kafka, topic)).map(({ value }) => value),
      ['before', 'after'],
    )
    await Promise.all([old.close(0), now.close(1_000)])
  })

  it('gets `fenced` when somebody else lives under its id, in the middle of a transaction or before one', async () => {
    const gatewayId = fresh('twins')
    const topic = await topicOf('twins')
    const one = await life(gatewayId)
    const other = await life(gatewayId)
    const failure = await failureOf(one.transact([recordOf(topic, 0, 'one')], positionsAt(1)))
    assert.deepEqual([failure.kind, failure.fate, failure.alarm], ['fenced', 'none', false])
    await other.transact([recordOf(topic, 0, 'other')], positionsAt(1))
    const third = gateway(kafka.endpoint, gatewayId)
    const usurped = Promise.withResolvers<void>()
    faults.set(gatewayId, (key) => {
      if (key === KAFKA_API.produce) usurped.resolve()
      return 'pass'
    })
    const late = failureOf(
      (async () => {
        for (let round = 2; ; round += 1) await other.transact([recordOf(topic, 0, `other ${round}`)], positionsAt(round))
      })(),
    )
    await usurped.promise
    faults.clear(gatewayId)
    const usurper = await begin(third)
    // In the middle of that, Kafka 4.1 now and then answers a commit with UNKNOWN_SERVER_ERROR (-1) instead.
    const { kind, code } = await late
    assert.ok(kind === 'fenced' || code === -1, `${kind} ${code}`)
    const committed = (await usurper.committed(EPOCH)).get('normal')
    assert.equal((await readCommitted(kafka, topic)).length, committed)
    await Promise.all([one.close(500), other.close(500), usurper.close(500)])
  })

  it('can do no harm with requests that arrive after the next life began', async () => {
    const late = ['addOffsetsToTxn', 'txnOffsetCommit', 'addPartitionsToTxn', 'produce', 'endTxn'] as const
    await Promise.all(
      late.map(async (api) => {
        const gatewayId = fresh(`late-${api}`)
        const topic = await topicOf('late')
        let frame: Buffer | undefined
        faults.set(gatewayId, (key, bytes) => {
          if (key !== KAFKA_API[api]) return 'pass'
          frame = Buffer.from(bytes)
          return 'cut'
        })
        const old = await life(gatewayId)
        await failureOf(old.transact([recordOf(topic, 0, 'ghost')], positionsAt(7)))
        faults.clear(gatewayId)
        const now = await life(gatewayId)
        assert.ok(frame)
        await replay(kafka.internalEndpoint, frame)
        assert.deepEqual(await now.committed(EPOCH), new Map())
        await now.transact([recordOf(topic, 0, 'real')], positionsAt(1))
        await replay(kafka.internalEndpoint, frame)
        await now.transact([recordOf(topic, 0, 'too')], positionsAt(2))
        assert.deepEqual(
          (await readCommitted(kafka, topic)).map(({ value }) => value),
          ['real', 'too'],
          api,
        )
        assert.equal((await now.committed(EPOCH)).get('normal'), 2)
        await Promise.all([old.close(0), now.close(1_000)])
      }),
    )
  })
})

/** Sends a captured request on a connection of its own, and waits for the answer. */
function replay(endpoint: string, frame: Buffer): Promise<void> {
  const [host, port] = endpoint.split(':')
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), host ?? '', () => socket.write(frame))
    socket.once('data', () => socket.destroy())
    socket.once('close', () => resolve())
    socket.once('error', reject)
  })
}

describe('a transaction', () => {
  it('repeats its first request while Kafka completes the one before, and sends its records once', async () => {
    const gatewayId = fresh('early')
    const topic = await topicOf('early')
    let offers = 0
    let transactions = 0
    faults.set(gatewayId, (key) => {
      offers += key === KAFKA_API.addOffsetsToTxn ? 1 : 0
      return 'pass'
    })
    const now = await life(gatewayId)
    while (offers === transactions || transactions < 10) {
      transactions += 1
      await now.transact([recordOf(topic, 0, String(transactions))], positionsAt(transactions))
      assert.ok(transactions < 1_000, 'Kafka never answered CONCURRENT_TRANSACTIONS')
    }
    faults.clear(gatewayId)
    const values = (await readCommitted(kafka, topic)).map(({ value }) => Number(value))
    assert.deepEqual(
      values,
      Array.from({ length: transactions }, (_, i) => i + 1),
    )
    await now.close(1_000)
  })

  it('holds several topics, epochs and lanes, in the order given, with all of a record', async () => {
    const gatewayId = fresh('many')
    const [one, two] = [await topicOf('one'), await topicOf('two')]
    const now = await life(gatewayId)
    const epochs = ['00000000000000aa', '00000000000000bb'] as const
    const positions = new Map([
      [
        epochs[0],
        new Map<Lane, number>([
          ['urgent', 3],
          ['internal', 9],
        ]),
      ],
      [epochs[1], new Map<Lane, number>([['normal', Number.MAX_SAFE_INTEGER]])],
    ])
    const records = Array.from({ length: 5_000 }, (_, i) => recordOf(i % 5 === 0 ? two : one, i % 2, String(i)))
    const odd = recordOf(two, 0, 'üß', {
      key: 'gerät',
      timestampMs: 60_000,
      headers: [
        ['a', '1'],
        ['a', '2'],
        ['__proto__', 'x'],
      ],
    })
    await now.transact([...records, odd], positions)
    assert.deepEqual(
      await now.committed(epochs[0]),
      new Map([
        ['urgent', 3],
        ['internal', 9],
      ]),
    )
    assert.deepEqual(await now.committed(epochs[1]), new Map([['normal', Number.MAX_SAFE_INTEGER]]))
    for (const topic of [one, two]) {
      const sent = [...records, odd].filter((record) => record.topic === topic)
      const want = sent.map(({ partition, value }) => ({ partition, value: Buffer.from(value).toString() }))
      assert.deepEqual(byPartition(await readCommitted(kafka, topic)), byPartition(want))
    }
    const shown = await readFormatted(kafka, two, '%k %T %h %p')
    assert.ok(shown.includes('gerät 60000 a=1,a=2,__proto__=x 0'), shown.at(-1))
    await now.close(1_000)
  })

  it('rejects when kafkajs leaves a partition out, and commits nothing', async () => {
    const gatewayId = fresh('missing')
    const topic = await topicOf('missing')
    const now = await life(gatewayId)
    const failure = await failureOf(now.transact([recordOf(topic, 0, 'a'), recordOf(topic, 7, 'b')], positionsAt(2)))
    assert.deepEqual([failure.kind, failure.fate], ['transient', 'none'])
    assert.match(failure.message, new RegExp(`partition 7 of the topic "${topic}"`))
    await now.close(1_000)
    const next = await life(gatewayId)
    assert.deepEqual(await next.committed(EPOCH), new Map())
    assert.deepEqual(await readCommitted(kafka, topic), [])
    await next.close(1_000)
  })

  it('names the partition whose batch is refused, and why', async () => {
    const big = await topicOf('big', { 'max.message.bytes': '2000' })
    const compacted = await topicOf('compacted', { 'cleanup.policy': 'compact' })
    const plain = await topicOf('plain')
    const refusals = [
      [recordOf(big, 1, 'x'.repeat(4_000)), /max\.message\.bytes/],
      [recordOf(plain, 1, 'x', { timestampMs: Date.now() + 48 * 3_600_000 }), /timestamp/],
      [{ ...recordOf(compacted, 1, 'x'), key: null as unknown as string }, /not valid/],
    ] as const
    for (const [record, reason] of refusals) {
      const now = await begin(gateway(kafka.endpoint, fresh('refused'), { compression: 'none' }))
      const failure = await failureOf(now.transact([recordOf(plain, 0, 'fine'), recordOf(record.topic, 0, 'fine'), record], positionsAt(3)))
      assert.deepEqual([failure.kind, failure.fate, failure.refused], ['rejected', 'none', { topic: record.topic, partition: 1 }])
      assert.match(failure.message, reason)
      // The open transaction is aborted, so that readers are not held up.
      await now.close(2_000)
      assert.deepEqual(await readCommitted(kafka, record.topic), [])
    }
  })
})

describe("another producer's open transaction in the same partition", () => {
  it('hides our records from readers, but not our positions from us', async () => {
    const topic = await topicOf('foreign')
    const gatewayId = fresh('foreign')
    const stranger = fresh('stranger')
    const hung = await life(stranger)
    faults.set(stranger, (key) => (key === KAFKA_API.endTxn ? 'cut' : 'pass'))
    await failureOf(hung.transact([recordOf(topic, 0, 'foreign')], positionsAt(1)))
    for (let round = 1; round <= 4; round += 1) {
      const mine = await life(gatewayId)
      assert.equal((await mine.committed(EPOCH)).get('normal') ?? 0, round - 1)
      faults.set(gatewayId, (key) => (key === KAFKA_API.endTxn ? 'cutAfterResponseSwallowed' : 'pass'))
      await failureOf(mine.transact([recordOf(topic, 0, String(round))], positionsAt(round)))
      faults.clear(gatewayId)
      await mine.close(0)
    }
    assert.deepEqual(await readCommitted(kafka, topic), [])
    faults.clear(stranger)
    await (await life(stranger)).close(1_000)
    assert.deepEqual(
      (await readCommitted(kafka, topic)).map(({ value }) => value),
      ['1', '2', '3', '4'],
    )
    await hung.close(0)
  })
})

describe('topics', () => {
  it('are described, and a missing one is an alarm that names it', async () => {
    const topic = await topicOf('facts', {
      'max.message.bytes': '123456',
      'cleanup.policy': 'compact',
      'message.timestamp.type': 'LogAppendTime',
    })
    const now = await life(fresh('facts'))
    assert.deepEqual(await now.topicFacts(topic), {
      partitions: 2,
      maxMessageBytes: 123_456,
      cleanupPolicy: 'compact',
      timestampType: 'LogAppendTime',
    })
    const failure = await failureOf(now.topicFacts('no-such-topic'))
    assert.deepEqual([failure.alarm, failure.message], [true, 'Kafka has no topic "no-such-topic"'])
    // The life goes on.
    assert.equal((await now.topicFacts(topic)).partitions, 2)
    await now.close(1_000)
  })

  it('without positions there is no life, and the alarm says so', async () => {
    const failure = await failureOf(begin(gateway(kafka.endpoint, fresh('lost'), { prefix: 'nobody' })))
    assert.deepEqual([failure.alarm, failure.message], [true, 'Kafka has no topic "nobody.positions"'])
    assert.match(failure.remedy ?? '', /kafka setup/)
  })

  it('are asked for by name only: a life never asks for the metadata of the whole cluster', async () => {
    const gatewayId = fresh('frugal')
    const topic = await topicOf('frugal')
    const asked: number[] = []
    faults.set(gatewayId, (key, frame) => {
      // Metadata, header version 1: the client id, then the number of topics; -1 asks for all.
      if (key === KAFKA_API.metadata) asked.push(frame.readInt32BE(14 + frame.readInt16BE(12)))
      return 'pass'
    })
    const bytes = { ...proxy.bytes }
    const now = await life(gatewayId)
    for (let epoch = 1; epoch <= 20; epoch += 1) await now.committed(epoch.toString(16).padStart(16, '0'))
    await now.topicFacts(topic)
    await now.transact([recordOf(topic, 0, 'a')], positionsAt(1))
    const used = proxy.bytes.toServer + proxy.bytes.toClient - bytes.toServer - bytes.toClient
    faults.clear(gatewayId)
    assert.ok(asked.length > 0 && asked.every((topics) => topics > 0), `topics asked for: ${asked.join(', ')}`)
    assert.ok(used < 64 * 1024, `${used} bytes from connect to the first commit, with the positions of 20 epochs`)
    await now.close(1_000)
  })
})

describe('the broker', () => {
  it('killed when the commit reaches it: what the positions say is what readers find', async () => {
    for (const verdict of ['cutAfterResponseSwallowed', 'cut'] as const) {
      const gatewayId = fresh('killed')
      const topic = await topicOf('killed')
      const reached = Promise.withResolvers<void>()
      const old = await life(gatewayId)
      faults.set(gatewayId, (key) => {
        if (key !== KAFKA_API.endTxn) return 'pass'
        reached.resolve()
        return verdict
      })
      const dying = failureOf(old.transact([recordOf(topic, 0, 'a'), recordOf(topic, 1, 'b')], positionsAt(2)))
      await reached.promise
      await kafka.kill('SIGKILL')
      assert.equal((await dying).fate, 'unknown')
      faults.clear(gatewayId)
      await kafka.start()
      const now = await beginPatiently(gateway(kafka.endpoint, gatewayId))
      const next = (await now.committed(EPOCH)).get('normal') ?? 0
      assert.equal((await readCommitted(kafka, topic)).length, next)
      if (verdict === 'cut') assert.equal(next, 0)
      await Promise.all([old.close(0), now.close(1_000)])
    }
  })

  it('stopped: a life ends within its timeouts, can be closed and given up, and leaves no connection', { timeout: 60_000 }, async () => {
    const before = proxy.open
    const topic = await topicOf('stopped')
    const client = gateway(kafka.endpoint, fresh('stopped'))
    const now = await begin(client)
    kafka.pause()
    try {
      const failure = await failureOf(now.transact([recordOf(topic, 0, 'a')], positionsAt(1)))
      assert.deepEqual([failure.kind, failure.fate], ['transient', 'none'])
      await now.close(60_000)
      const waiting = new AbortController()
      const begun = failureOf(client.begin({ requestMs: 60_000, transactionMs: 60_000 }, waiting.signal))
      setImmediate(() => waiting.abort())
      assert.match((await begun).message, /given up/)
    } finally {
      kafka.resume()
    }
    while (proxy.open > before) await new Promise((resolve) => setTimeout(resolve, 20))
  })

  it('gone: the failure is transient and says where it was looked for', async () => {
    await proxy.refuse()
    proxy.cut()
    try {
      const failure = await failureOf(life(fresh('gone')))
      assert.deepEqual([failure.kind, failure.alarm], ['transient', false])
      assert.match(failure.message, new RegExp(`no connection to the broker ${kafka.endpoint}: nothing listens there`))
    } finally {
      await proxy.accept()
    }
  })

  it('the next one of the list is tried when the first does not answer', async () => {
    const [host = '', port] = kafka.endpoint.split(':')
    const brokers = [
      { host: '127.0.0.1', port: 1 },
      { host: '::1', port: 1 },
      { host, port: Number(port) },
    ]
    const topic = await topicOf('seeds')
    const failures = await deliver(gateway(kafka.endpoint, fresh('seeds'), { brokers }), topic, 4, 2)
    assert.deepEqual(failures, [])
    assert.deepEqual(byPartition(await readCommitted(kafka, topic)), expected(4))
  })
})

describe('at-least-once', () => {
  it('sends without transactions and keeps no positions; zstd and no compression arrive as well', async () => {
    const topic = await topicOf('plain')
    for (const compression of ['zstd', 'none', 'gzip'] as const) {
      const now = await begin(gateway(kafka.endpoint, fresh('plain'), { delivery: 'at-least-once', compression }))
      assert.equal((await now.topicFacts(topic)).partitions, 2)
      await now.transact([recordOf(topic, 0, compression)], positionsAt(1))
      assert.deepEqual(await now.committed(EPOCH), new Map())
      await now.close(1_000)
    }
    assert.deepEqual(
      (await readCommitted(kafka, topic)).map(({ value }) => value),
      ['zstd', 'none', 'gzip'],
    )
  })

  it('an unanswered send has an unknown fate', async () => {
    const gatewayId = fresh('unsure')
    const topic = await topicOf('unsure')
    const now = await begin(gateway(kafka.endpoint, gatewayId, { delivery: 'at-least-once' }))
    faults.set(gatewayId, (key) => (key === KAFKA_API.produce ? 'cutAfterResponseSwallowed' : 'pass'))
    assert.equal((await failureOf(now.transact([recordOf(topic, 0, 'a')], positionsAt(1)))).fate, 'unknown')
    faults.clear(gatewayId)
    await now.close(0)
  })
})
