/** Kafka's error codes (protocol guide, "Error Codes") that mean more than "try again". */
import type { ErrorKind } from '../../daemon/errors.ts'

export interface Meaning {
  readonly kind: ErrorKind
  /** `place` names the topic or partition as far as the answer does. */
  readonly say: (place: string) => string
  readonly alarm?: boolean
  readonly remedy?: string
}

const GRANT = 'Grant the right: `edgectl kafka setup --print` shows all that are needed.'

const transient = (say: Meaning['say']): Meaning => ({ kind: 'transient', say })
const refused = (say: Meaning['say']): Meaning => ({ kind: 'rejected', say })
const fenced = (say: Meaning['say']): Meaning => ({ kind: 'fenced', say })
const alarm = (say: Meaning['say'], remedy: string): Meaning => ({ kind: 'transient', say, alarm: true, remedy })

export const UNKNOWN_TOPIC = 3
export const NO_LEADER = 5
export const FENCED = 47
export const CONCURRENT_TRANSACTIONS = 51
export const TOPIC_NOT_ALLOWED = 29

export const CODES: ReadonlyMap<number, Meaning> = new Map([
  // Also said for a while by a broker that has just started; whoever asked for the topic itself makes it an alarm.
  [UNKNOWN_TOPIC, transient((place) => `Kafka does not know ${place}`)],
  [NO_LEADER, transient((place) => `${place} has no leader now`)],
  [6, transient((place) => `the leader of ${place} has moved`)],
  [7, transient((place) => `the replicas of ${place} did not answer the leader in time`)],
  [10, refused((place) => `the batch for ${place} is larger than its max.message.bytes`)],
  [14, transient(() => 'the coordinator is loading its state')],
  [15, transient(() => 'the cluster has no coordinator for us yet')],
  [16, transient(() => 'our coordinator has moved')],
  [17, alarm((place) => `Kafka does not allow the name of ${place}`, 'Look at kafka.topic, kafka.allowedTopics and kafka.prefix.')],
  [18, refused((place) => `the batch for ${place} is larger than its segment.bytes`)],
  [19, transient((place) => `${place} has fewer replicas in sync than min.insync.replicas`)],
  [20, transient((place) => `${place} has fewer replicas in sync than min.insync.replicas`)],
  [TOPIC_NOT_ALLOWED, alarm((place) => `we are not allowed to use ${place}`, GRANT)],
  [30, alarm(() => 'we are not allowed to use our consumer groups, which hold the positions', GRANT)],
  [31, alarm(() => 'the cluster does not allow us what we asked', GRANT)],
  [32, refused((place) => `a timestamp in the batch for ${place} is outside of what the topic takes`)],
  [33, alarm(() => 'the broker does not offer our SASL mechanism', 'Look at kafka.sasl.mechanism.')],
  [34, alarm(() => 'the broker did not expect our SASL request', 'Look at kafka.sasl and at the port of kafka.brokers.')],
  [35, alarm(() => 'the broker is too old for what we ask', 'Use Kafka 1.0 or later, or `kafka.delivery: at-least-once`.')],
  [FENCED, fenced(() => 'a newer producer with our transactional id began')],
  [49, transient(() => 'Kafka had forgotten our transactional id (it does after some idle days)')],
  [
    50,
    alarm(
      () => "our transaction timeout is above the broker's transaction.max.timeout.ms",
      'Raise transaction.max.timeout.ms at the brokers.',
    ),
  ],
  [CONCURRENT_TRANSACTIONS, transient(() => 'Kafka still completes our last transaction')],
  [53, alarm(() => 'we are not allowed to use our transactional id', GRANT)],
  [58, alarm(() => 'the broker refuses our credentials', 'Look at kafka.sasl.')],
  [87, refused((place) => `a record in the batch for ${place} is not valid there (a compacted topic takes none without a key)`)],
  [90, fenced(() => 'a newer producer with our transactional id began')],
])
