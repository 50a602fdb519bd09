/** The feed's checkpoint in the box's memory. */
import type { FeedCheckpoint } from './feed.ts'
import type { Json, Memory } from './memory.ts'
import type { Place } from './ports.ts'

const KEY = 'feed/checkpoint'

export class MemoryCheckpoint implements FeedCheckpoint {
  readonly #memory: Memory

  constructor(memory: Memory) {
    this.#memory = memory
  }

  /** What can't be understood is as good as none: the feed then reads everything. */
  async read(): Promise<Place | undefined> {
    const stored: Json | undefined = (await this.#memory.read(KEY)).get(KEY)
    if (stored === undefined || stored === null || typeof stored !== 'object' || !('clusterId' in stored)) return undefined
    const { clusterId, revision } = stored
    return typeof clusterId === 'string' && typeof revision === 'number' ? { clusterId, revision } : undefined
  }

  async write({ clusterId, revision }: Place): Promise<void> {
    await this.#memory.write({ [KEY]: { clusterId, revision } })
  }
}
