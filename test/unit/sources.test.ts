import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { Sources, type SourcePlan } from '../../daemon/compose/sources.ts'
import type { DevicePublisher, Log, Source } from '../../daemon/ports.ts'
import { FakeClock } from '../fakes/clock.ts'

const silent: Log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined }
const { signal } = new AbortController()

/** Sources that tell when they open, between what is told of the settings of devices. */
class Rig {
  readonly events: string[] = []
  refuses: string | undefined
  readonly sources: Sources

  constructor(...names: readonly string[]) {
    const intake = { add: () => () => undefined, offer: () => undefined }
    const settle = async (): Promise<void> => {
      await Promise.resolve()
      const publishers = this.sources.publishers().map(({ source }) => source)
      this.events.push(`settled ${publishers.join(' ')}`.trim())
    }
    const parts = { intake, clock: new FakeClock(), log: silent, drainMs: () => 0, settle }
    this.sources = new Sources(
      names.map((name) => this.plan(name)),
      parts,
    )
  }

  plan(name: string, settings: object = {}): SourcePlan {
    const make = (): Source => ({
      name,
      devices: { source: name } as DevicePublisher,
      start: async () => {
        if (name === this.refuses) throw new Error('the port is taken')
        this.events.push(`open ${name}`)
      },
      hold: () => undefined,
      release: () => undefined,
      state: () => ({ name, kind: 'listen', state: 'up', sinceMs: 0, connections: 0, notices: [] }),
      stop: async () => void this.events.push(`closed ${name}`),
    })
    return { kind: 'listen', name, settings, port: undefined, make }
  }
}

describe('the sources', () => {
  it('open after the settings of devices were told to them: who is fast finds them there', async () => {
    const rig = new Rig('lan', 'plant')
    await rig.sources.start(signal)
    assert.deepEqual(rig.events, ['settled lan', 'open lan', 'settled lan plant', 'open plant'])
    await rig.sources.become([rig.plan('lan'), rig.plan('plant'), rig.plan('new')])
    assert.deepEqual(rig.events.slice(4), ['settled lan plant new', 'open new'])
  })

  it('take back what was told to one that could not open', async () => {
    const rig = new Rig('lan')
    await rig.sources.start(signal)
    rig.refuses = 'bad'
    await assert.rejects(rig.sources.become([rig.plan('lan'), rig.plan('bad')]), /the port is taken/)
    assert.deepEqual(rig.events, ['settled lan', 'open lan', 'settled lan bad', 'settled lan'])
    assert.deepEqual(
      rig.sources.state().map(({ name }) => name),
      ['lan'],
    )
  })
})
