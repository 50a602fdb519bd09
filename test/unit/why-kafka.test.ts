import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { statusDocument, type StatusDocument } from '../../daemon/status.ts'
import { whyKafka, whyKafkaStopped } from '../../daemon/why-kafka.ts'
import { snapshot } from '../fakes/snapshot.ts'

const plain = statusDocument(snapshot())
const lane = { messages: 0, bytes: 0, watermark: 0, highest: 0, oldestAgeSeconds: undefined, blocked: false, delivered: 0 }
const lanes: StatusDocument['lanes'] = {
  urgent: lane,
  normal: { ...lane, messages: 1_200 },
  deferred: lane,
  internal: { ...lane, messages: 7 },
}

describe('why kafka', () => {
  it('says what it does, what waits of devices, when it is full, and what to do', () => {
    const kafka = { ...plain.kafka, state: 'backing-off', reason: 'no connection to k-1:9092', remedy: 'look at the link', transactions: 0 }
    const buffer = { ...plain.buffer, fullInSeconds: 43_200, blockedReason: undefined }
    const { sentence, buffered } = whyKafka({ ...plain, kafka, buffer, lanes })
    assert.equal(buffered, 1_200)
    assert.match(sentence, /^Kafka: no connection to k-1:9092; it waits a moment before it tries again, /)
    assert.match(
      sentence,
      /Kafka has confirmed nothing since the start of the daemon\. 1200 messages wait in the buffer \(.*\), and none of them is lost; at this rate it is full in 12 h/,
    )
    assert.match(sentence, /What to do: look at the link\.$/)
  })

  it('gives no remedy for what is well', () => {
    const kafka = { ...plain.kafka, state: 'idle', reason: undefined, remedy: undefined, transactions: 3 }
    const { sentence, remedy, reason } = whyKafka({ ...plain, kafka, lanes: { ...lanes, normal: lane } })
    assert.deepEqual([remedy, reason], [undefined, undefined])
    assert.match(sentence, /all is sent.*3 transactions since the start\. Nothing waits;/)
  })

  it('tells a daemon that is down from one that does not answer', () => {
    const stopped = { usedBytes: 2_048, lanes: { normal: { messages: 5, oldestAgeSeconds: 7_200 }, internal: { messages: 2 } } }
    assert.match(
      whyKafkaStopped(stopped).sentence,
      /not running.*5 messages wait in the buffer \(2\.0 KiB, the oldest from 2 h 0 min ago\).*systemctl start/,
    )
    assert.match(whyKafkaStopped({ ...stopped, silent: true }).sentence, /does not answer.*systemctl restart/)
  })
})
