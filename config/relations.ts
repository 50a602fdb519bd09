import { boxRelations } from './relations/box.ts'
import { bufferRelations } from './relations/buffer.ts'
import { kafkaRelations } from './relations/kafka.ts'
import { limitRelations } from './relations/limits.ts'
import { mqttRelations } from './relations/mqtt.ts'
import { presenceRelations } from './relations/presence.ts'
import type { Relation } from './relations/relation.ts'

/** Every rule between several values. */
export function allRelations(diskBytes: number | undefined): readonly Relation[] {
  return [...mqttRelations, ...limitRelations, ...bufferRelations(diskBytes), ...kafkaRelations, ...presenceRelations, ...boxRelations]
}
