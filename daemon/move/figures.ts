import type { Counted } from '../ports.ts'

/** Since the start, over all imports. */
export interface ImportTally {
  readonly taken: Counted
  /** Committed to Kafka: what was there already, by the origin or another importer, is not in it. */
  readonly delivered: Counted
}

/** One import as `edgectl imports` and the status show it. */
export interface ImportFigures {
  /** Of the export. */
  readonly id: string
  /** Whose messages they are. */
  readonly gateway: string
  readonly messages: number
  /** Not in Kafka yet, the origin's own records included. */
  readonly left: number
  /** Payload bytes of them. */
  readonly leftBytes: number
  readonly importedAt: string
  readonly state: 'waiting' | 'delivering' | 'dead-letters'
  readonly deadLetters: number
  /** Why it does not move. */
  readonly reason?: string
  readonly remedy?: string
}
