/** The topics that records go to, and what must be true of them. */
import { LANES, type InternalRecord, type TopicFacts } from '../ports.ts'
import { LinkFailure } from './failure.ts'
import type { RelaySettings } from './settings.ts'

const SETUP = 'run `edgectl kafka setup`, or `edgectl kafka setup --print` and have the commands run'

export function positionsTopic(settings: RelaySettings): string {
  return `${settings.prefix}.positions`
}

export function internalTopic(settings: RelaySettings, destination: InternalRecord['destination']): string {
  return `${settings.prefix}.${destination}`
}

/** What is wrong with a topic of ours or the operator's; `undefined` if nothing is. */
export function judgeTopic(topic: string, facts: TopicFacts, settings: RelaySettings): LinkFailure | undefined {
  if (topic === positionsTopic(settings)) return judgePositions(topic, facts)
  if (topic === internalTopic(settings, 'ledger')) return undefined
  if (facts.cleanupPolicy?.includes('compact') !== true) return undefined
  return alarm(
    `the topic "${topic}" is compacted, so Kafka would keep only the last record of each device`,
    `set its cleanup.policy to delete: \`kafka-configs.sh --alter --topic ${topic} --add-config cleanup.policy=delete\``,
  )
}

/** The lane's index is the partition of its position; Kafka takes no position for a partition that does not exist. */
function judgePositions(topic: string, facts: TopicFacts): LinkFailure | undefined {
  if (facts.partitions >= LANES.length) return undefined
  return alarm(`the topic "${topic}" has ${facts.partitions} of the ${LANES.length} partitions that it needs, one for each lane`, SETUP)
}

export function alarm(message: string, remedy: string): LinkFailure {
  return new LinkFailure({ class: 'alarm', message, remedy, inDoubt: false })
}
