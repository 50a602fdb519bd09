import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { serviceScope } from '../services/index.ts'
import { KafkaBox, waitingIn } from './kafka-box.ts'

const scope = serviceScope()

// Each with a broker of its own, since the faults hit all that goes through a proxy.
describe('the way to Kafka', { concurrency: true }, () => {
  test('log path 14, 17: the link looks connected and forwards nothing: the verdict says so, kill -9 loses nothing, and it heals by itself', async () => {
    const { kafka, proxy } = await scope.kafkaBehindProxy()
    const boxes = [await KafkaBox.start({ scope, kafka, name: 'silent' }), await KafkaBox.start({ scope, kafka, name: 'killed' })] as const
    const [silent, killed] = boxes
    for (const box of boxes) {
      box.publish('a', 50)
      await box.drained()
    }
    proxy.halfOpen()
    for (const box of boxes) box.publish('a', 100)
    await Promise.all(boxes.map((box) => box.acknowledged()))
    // In its transaction, which nobody answers.
    await killed.until('it sends', (status) => status.kafka.state === 'sending')
    await killed.gateway.end('SIGKILL')
    await killed.gateway.start()
    // Said while the request is still waited for, and then with what came of it.
    const early = await silent.says(/slow to answer, or silent/)
    assert.deepEqual([early.kafka.state, early.verdict.state], ['sending', 'buffering'])
    assert.match(early.verdict.line, /^Kafka has confirmed nothing for \d+ s, 10\d messages wait$/)
    const {
      verdict,
      kafka: { lastProgressAgeSeconds },
    } = await silent.says(/did not answer/)
    assert.equal(verdict.state, 'buffering')
    assert.ok(lastProgressAgeSeconds > 0)
    assert.equal(waitingIn(await silent.gateway.status()), 100)
    // From here on every look says so, though each new attempt connects.
    for (let look = 0; look < 20; look += 1) {
      assert.equal((await silent.gateway.status()).verdict.state, 'buffering')
      await sleep(100)
    }
    proxy.cut()
    await proxy.heal()
    for (const box of boxes) {
      await box.isWell()
      await box.deliveredExactly()
    }
  })

  test('log path 24: a thin uplink, 64 kbit/s with 1 s round trip and cuts: what is sent gets through, and nothing is sent again for ever', async () => {
    const { kafka, proxy } = await scope.kafkaBehindProxy()
    const box = await KafkaBox.start({ scope, kafka, name: 'thin', config: { kafka: { compression: 'none' } } })
    box.publish('a', 20)
    await box.drained()
    const before = proxy.bytes.toServer
    proxy.delay(500)
    proxy.throttle(8_000)
    const payload = (): Buffer => Buffer.from(randomBytes(300).toString('base64'))
    for (const device of ['a', 'b', 'c', 'd']) box.publish(device, 100, payload)
    await box.acknowledged()
    for (let cuts = 0; cuts < 3; cuts += 1) {
      const { lanes } = await box.gateway.status()
      const delivered = lanes['normal']?.delivered ?? 0
      await box.until(
        'a transaction gets through',
        (status) => waitingIn(status) === 0 || (status.lanes['normal']?.delivered ?? 0) > delivered,
      )
      proxy.cut()
    }
    await box.drained()
    const sent = proxy.bytes.toServer - before
    await proxy.heal()
    await box.deliveredExactly()
    const payloadBytes = 400 * 400
    assert.ok(sent < 4 * payloadBytes, `${sent} bytes on the line for ${payloadBytes} bytes of payload`)
  })
})
