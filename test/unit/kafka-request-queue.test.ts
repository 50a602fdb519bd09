import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import '../../adapters/kafka/kafkajs.ts'

interface Queue {
  throttledUntil: number
  throttleCheckTimeoutId: NodeJS.Timeout | null
  maybeThrottle: (ms: number) => void
  push: (request: object) => void
  fulfillRequest: (answer: object) => void
  checkPendingRequests: () => void
  destroy: () => void
}

const RequestQueue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue') as new (options: object) => Queue

function queueOf(maxInFlightRequests: number): Queue {
  const logger = { debug: () => undefined, namespace: () => logger }
  return new RequestQueue({
    instrumentationEmitter: null,
    maxInFlightRequests,
    requestTimeout: 60_000,
    enforceRequestTimeout: false,
    clientId: 'c',
    broker: 'b',
    logger,
    isConnected: () => true,
  })
}

function request(correlationId: number, sent: () => void): object {
  return {
    entry: { correlationId, resolve: () => undefined, reject: () => undefined },
    expectResponse: true,
    requestTimeout: null,
    sendRequest: sent,
  }
}

describe('the request queue of kafkajs', () => {
  it('sets no timer while nothing waits', () => {
    const queue = queueOf(1)
    queue.checkPendingRequests()
    assert.equal(queue.throttleCheckTimeoutId, null)
    queue.push(request(1, () => undefined))
    queue.fulfillRequest({ correlationId: 1, payload: Buffer.alloc(0), size: 0 })
    assert.equal(queue.throttleCheckTimeoutId, null)
  })

  it('sends what a throttling held back, once it is over', async () => {
    const queue = queueOf(5)
    queue.maybeThrottle(30)
    const untilMs = queue.throttledUntil
    const sentMs = await new Promise<number>((resolve) => {
      queue.push(request(1, () => resolve(Date.now())))
      assert.notEqual(queue.throttleCheckTimeoutId, null)
    })
    assert.ok(sentMs >= untilMs)
    queue.destroy()
  })

  it('sends what waited for another request, when that is answered', () => {
    const queue = queueOf(1)
    const sent: number[] = []
    for (const id of [1, 2, 3]) queue.push(request(id, () => sent.push(id)))
    assert.deepEqual(sent, [1])
    queue.fulfillRequest({ correlationId: 1, payload: Buffer.alloc(0), size: 0 })
    assert.deepEqual(sent, [1, 2])
    queue.destroy()
  })
})
