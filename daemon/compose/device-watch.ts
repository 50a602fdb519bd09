/** The watch over devices, wired: its settings, its memory in `state.db`, and what it needs of the other parts. */
import type { Settings } from '../../config/settings.ts'
import { DeviceWatch, type PresenceMemory } from '../ingest/device-watch.ts'
import { PRESENCE } from '../ingest/presence-memory.ts'
import type { PresenceSettings } from '../ingest/presence-settings.ts'
import type { Json, Memory } from '../patch/memory.ts'
import type { Parts } from './parts.ts'

export function presenceSettings({ presence }: Settings): PresenceSettings {
  const { silentAfterMs, maxDevices, groups } = presence
  return { silentAfterMs, maxDevices, groups: Object.entries(groups).map(([name, group]) => ({ name, ...group })) }
}

type Needed = Pick<Parts, 'clock' | 'log' | 'outbox'> & { readonly sources: () => Parts['sources'] }

export function deviceWatch(settings: Settings, parts: Needed, report: (type: string, document: object) => void): DeviceWatch {
  const { clock, log, outbox } = parts
  return new DeviceWatch(presenceSettings(settings), {
    clock,
    log,
    sources: () => parts.sources().state(),
    connectionsOf: (device) => parts.sources().connectionsOf(device),
    report,
    memory: presenceMemory(outbox.memory),
  })
}

function presenceMemory(memory: Memory): PresenceMemory {
  let pieces = 0
  const keyOf = (index: number): string => `${PRESENCE}${String(index).padStart(4, '0')}`
  return {
    read: async () => {
      const found = await memory.read(PRESENCE)
      pieces = found.size
      return found.values()
    },
    write: async (made) => {
      let index = 0
      let bytes = 0
      // A transaction each: the buffer's commits, which take turns with them, wait for one piece at most.
      for (const piece of made) {
        bytes += JSON.stringify(piece).length
        await memory.write({ [keyOf(index)]: piece as unknown as Json })
        index++
      }
      const gone = Array.from({ length: Math.max(0, pieces - index) }, (_, at) => [keyOf(index + at), undefined] as const)
      if (gone.length > 0) await memory.write(Object.fromEntries(gone))
      pieces = index
      return bytes
    },
  }
}
