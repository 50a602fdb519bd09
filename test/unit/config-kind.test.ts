import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { GatewayError } from '../../daemon/errors.ts'
import { layersIn, type ConfigLayer } from '../../daemon/patch/config-layers.ts'
import type { ConfigPatch } from '../../daemon/patch/document.ts'
import { ConfigKind, type Configuration } from '../../daemon/patch/kinds/config.ts'
import type { Accepted } from '../../daemon/patch/kinds.ts'
import type { Json, JsonObject, Memory, MemoryChanges } from '../../daemon/patch/memory.ts'

/** What one box remembers, and the layers that its daemon runs on. */
class Box implements Memory, Configuration {
  readonly entries = new Map<string, Json>()
  inForce: readonly ConfigLayer[] = []
  refuses: string | undefined
  kind = new ConfigKind(this, this, () => 1_000)

  read(prefix: string): Promise<ReadonlyMap<string, Json>> {
    return Promise.resolve(new Map([...this.entries].filter(([key]) => key.startsWith(prefix)).sort()))
  }

  write(changes: MemoryChanges): Promise<void> {
    for (const [key, value] of Object.entries(changes)) {
      if (value === undefined) this.entries.delete(key)
      else this.entries.set(key, value)
    }
    return Promise.resolve()
  }

  check(layer: ConfigLayer): Promise<string | undefined> {
    return Promise.resolve('wrong' in layer.merge ? 'wrong is not a key' : undefined)
  }

  apply(): Promise<void> {
    if (this.refuses !== undefined) return Promise.reject(new GatewayError('transient', this.refuses))
    this.inForce = layersIn(this.entries)
    return Promise.resolve()
  }

  inForceHere(): Promise<string | undefined> {
    return Promise.resolve(this.refuses)
  }

  get patches(): readonly string[] {
    return this.inForce.map(({ patch }) => patch)
  }

  async applied(patch: Accepted<ConfigPatch>) {
    const plan = await this.kind.prepare(patch)
    await this.kind.flip(plan)
    await this.kind.activate(plan)
    await this.kind.commit(plan)
    return plan
  }
}

function accepted(sequence: number, spec: JsonObject, supersedes: readonly string[] = []): Accepted<ConfigPatch> {
  const patch = { kind: 'config', id: `p${sequence}`, channel: 'c', sequence, spec, supersedes } as unknown as ConfigPatch
  return { patch, digest: '', payload: new Uint8Array(), envelope: new Uint8Array() }
}

describe('kind config', () => {
  it('patch path 24: undoing 41 keeps 42, though 42 came first', async () => {
    const box = new Box()
    await box.applied(accepted(42, { a: 2 }))
    const plan = await box.applied(accepted(41, { a: 1 }))
    assert.deepEqual(box.patches, ['p41', 'p42'])
    await box.kind.unflip(plan)
    await box.kind.reactivate()
    assert.deepEqual(box.patches, ['p42'])
  })

  it('what it supersedes comes back with its undo, unless that was undone itself', async () => {
    const box = new Box()
    await box.applied(accepted(1, {}))
    await box.applied(accepted(2, {}))
    const plan = await box.applied(accepted(3, {}, ['p1', 'p2']))
    assert.deepEqual(box.patches, ['p3'])
    await box.write({ 'undone/p1': true })
    await box.kind.unflip(plan)
    await box.kind.unflip(plan)
    await box.kind.reactivate()
    assert.deepEqual(box.patches, ['p2'])
  })

  it('changes nothing before FLIP, refuses what is not valid here, and each step may come twice', async () => {
    const box = new Box()
    await assert.rejects(box.kind.prepare(accepted(1, { wrong: 1 })), { kind: 'rejected' })
    const plan = await box.kind.prepare(accepted(1, { a: 1 }))
    assert.deepEqual([box.entries.size, await box.kind.isFlipped(plan)], [0, false])
    await box.kind.flip(plan)
    await box.kind.flip(plan)
    assert.equal(await box.kind.isFlipped(plan), true)
    assert.equal(layersIn(box.entries)[0]?.trial, true)
    await box.kind.commit(plan)
    await box.kind.commit(plan)
    assert.equal(layersIn(box.entries)[0]?.trial, false)
  })

  it('patch path 11: an activation that the daemon refuses is no success, and the way back ends with the old settings', async () => {
    const box = new Box()
    const plan = await box.kind.prepare(accepted(1, { a: 1 }))
    await box.kind.flip(plan)
    box.refuses = 'the port is taken'
    await assert.rejects(box.kind.activate(plan), { message: 'the port is taken' })
    await assert.rejects(box.kind.verify(plan), { kind: 'rejected' })
    box.refuses = undefined
    await box.kind.unflip(plan)
    await box.kind.reactivate()
    assert.deepEqual([box.entries.size, box.patches], [0, []])
  })
})
