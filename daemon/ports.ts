/**
 * Every interface that the flows need from the outside, a file for each neighbour. Adapters and the store implement them
 * and see nothing else of the daemon; `compose.ts` is the one place that wires them.
 *
 * Shapes: times are ms, sizes bytes, rates per second, unless a name says otherwise.
 */
export * from './ports/words.ts'
export type * from './ports/mqtt.ts'
export type * from './ports/outbox.ts'
export type * from './ports/kafka.ts'
export type * from './ports/local.ts'
export type * from './ports/moves.ts'
