/**
 * The frame of an export: a head, messages with a running digest after each block, a tail. One file, or several parts of
 * at most a given size, each with head and tail of its own.
 */
import type { ForeignEpoch, Lane } from '../ports.ts'

/** Raised when an older release could not read it. */
export const EXPORT_FORMAT = 1

/** First line of each part. */
export interface ExportHead {
  readonly edgeGatewayExport: typeof EXPORT_FORMAT
  readonly id: string
  /** Counted from 1. */
  readonly part: number
  /** SHA-256 of the part before; empty in the first. */
  readonly before: string
  readonly exportedAt: string
  readonly version: string
  /** Whose messages these are: header `gw`, and the name that their positions are kept under in Kafka. */
  readonly gateway: string
  readonly prefix: string
  /** Where they belong; undefined when no Kafka was named. */
  readonly topic: string | undefined
  readonly allowedTopics: readonly string[]
  readonly epochs: readonly ForeignEpoch[]
}

/** After each block. */
export interface ExportBlock {
  readonly block: number
  /** Of the part, up to here. */
  readonly sha256: string
}

export interface LaneCount {
  readonly messages: number
  readonly first: number
  readonly last: number
}

/** Last line of each part. */
export interface ExportTail {
  readonly end: number
  /** No further part follows. */
  readonly last: boolean
  /** Of all parts so far. */
  readonly messages: number
  readonly bytes: number
  readonly lanes: Readonly<Partial<Record<Lane, LaneCount>>>
  /** Of the part, up to this line. */
  readonly sha256: string
}

/** What an export holds, in sum. */
export interface ExportSum {
  readonly messages: number
  /** Of payload. */
  readonly bytes: number
  readonly lanes: Readonly<Partial<Record<Lane, LaneCount>>>
}

export function counted(lanes: Partial<Record<Lane, LaneCount>>, lane: Lane, position: number): LaneCount {
  const before = lanes[lane]
  return before === undefined
    ? { messages: 1, first: position, last: position }
    : { messages: before.messages + 1, first: before.first, last: position }
}
