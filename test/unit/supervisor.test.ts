import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Component } from '../../daemon/component.ts'
import type { Log } from '../../daemon/ports.ts'
import { Supervisor } from '../../daemon/supervisor.ts'
import { FakeClock } from '../fakes/clock.ts'

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }

function part(name: string, calls: string[], change: Partial<Component> = {}): Component {
  return {
    name,
    start: async () => void calls.push(`start ${name}`),
    stop: async () => void calls.push(`stop ${name}`),
    ...change,
  }
}

describe('the supervisor', () => {
  it('starts in order and stops in reverse, once', async () => {
    const calls: string[] = []
    const supervisor = new Supervisor([part('a', calls), part('b', calls)], new FakeClock(), silent)
    await supervisor.start(new AbortController().signal)
    await Promise.all([supervisor.stop(0), supervisor.stop(0)])
    assert.deepEqual(calls, ['start a', 'start b', 'stop b', 'stop a'])
  })

  it('stops what had started when a start fails, and says why', async () => {
    const calls: string[] = []
    const failing = part('b', calls, { start: () => Promise.reject(new Error('no port')) })
    const supervisor = new Supervisor([part('a', calls), failing, part('c', calls)], new FakeClock(), silent)
    await assert.rejects(supervisor.start(new AbortController().signal), /no port/)
    assert.deepEqual(calls, ['start a', 'stop a'])
  })

  it('ends a start between two components when it is asked to stop', async () => {
    const calls: string[] = []
    const stop = new AbortController()
    const first = part('a', calls, { start: async () => stop.abort() })
    await assert.rejects(new Supervisor([first, part('b', calls)], new FakeClock(), silent).start(stop.signal))
    assert.deepEqual(calls, ['stop a'])
  })

  it('ends when one part dies by itself', async () => {
    const calls: string[] = []
    const died = Promise.withResolvers<never>()
    const supervisor = new Supervisor([part('a', calls), part('b', calls, { ended: died.promise })], new FakeClock(), silent)
    await supervisor.start(new AbortController().signal)
    died.reject(new Error('the disk is gone'))
    await assert.rejects(supervisor.ended(), /the disk is gone/)
  })

  it('goes on stopping when one part fails to', async () => {
    const calls: string[] = []
    const stubborn = part('b', calls, { stop: () => Promise.reject(new Error('no')) })
    const supervisor = new Supervisor([part('a', calls), stubborn], new FakeClock(), silent)
    await supervisor.start(new AbortController().signal)
    await supervisor.stop(0)
    assert.deepEqual(calls, ['start a', 'start b', 'stop a'])
  })
})
