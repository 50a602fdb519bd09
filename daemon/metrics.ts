/**
 * The metric families, from one snapshot. Names carry no `edge_gateway_` prefix here. Labels are bounded: lanes,
 * shed reasons and the sources of the config; never a device.
 */
import { deviceMetrics } from './device-figures.ts'
import { isReady } from './health.ts'
import { moveMetrics } from './move/metrics.ts'
import { patchMetrics } from './patch-figures.ts'
import { LANES, SHED_REASONS, type Metric, type MetricSample } from './ports.ts'
import type { Snapshot } from './status.ts'

const VERDICTS = ['ok', 'starting', 'buffering', 'blocked', 'degraded', 'stuck', 'stopping'] as const

export function metricsOf(snapshot: Snapshot): readonly Metric[] {
  const patches = snapshot.patches === undefined ? [] : patchMetrics(snapshot.patches)
  return [
    ...gatewayMetrics(snapshot),
    ...intakeMetrics(snapshot),
    ...bufferMetrics(snapshot),
    ...kafkaMetrics(snapshot),
    ...moveMetrics(snapshot),
    ...patches,
  ]
}

function gatewayMetrics(snapshot: Snapshot): readonly Metric[] {
  const verdict = VERDICTS.map((state) => ({ labels: { state }, value: snapshot.verdict.state === state ? 1 : 0 }))
  return [
    gauge('info', 'Always 1; its labels name the release and the gateway', [
      { labels: { version: snapshot.identity.version, gateway: snapshot.identity.gateway }, value: 1 },
    ]),
    gauge('start_time_seconds', 'Unix time of the daemon start', one(snapshot.identity.startedMs / 1_000)),
    gauge('verdict', '1 for the verdict that stands', verdict),
    gauge('ready', '1 while the pipeline accepts deliveries', one(isReady(snapshot.verdict) ? 1 : 0)),
    gauge('clock_trusted', '0 while the wall clock can not be right', one(snapshot.clockTrusted ? 1 : 0)),
    gauge('resident_memory_bytes', 'Resident memory of the daemon', one(process.memoryUsage.rss())),
    counter('cpu_seconds_total', 'CPU time of the daemon, user and system', one(cpuSeconds())),
  ]
}

function intakeMetrics(snapshot: Snapshot): readonly Metric[] {
  const { intake, ledger, sources } = snapshot
  const bySource = (pick: (name: string) => number): MetricSample[] =>
    sources.map((source) => ({ labels: { source: source.name }, value: pick(source.name) }))
  return [
    counter(
      'received_messages_total',
      'Messages parsed since the start',
      bySource((name) => intake.bySource[name]?.messages ?? 0),
    ),
    counter(
      'received_bytes_total',
      'Payload bytes parsed since the start',
      bySource((name) => intake.bySource[name]?.bytes ?? 0),
    ),
    counter(
      'accepted_messages_total',
      'Messages accepted since the start',
      Object.entries(intake.accepted).map(([lane, counted]) => ({ labels: { lane }, value: counted.messages })),
    ),
    // By the ledger: what the buffer drops later (evicted, expired) never comes by the door again.
    counter(
      'shed_messages_total',
      'Messages dropped, over all starts',
      SHED_REASONS.map((reason) => ({ labels: { reason }, value: ledger.shed[reason]?.messages ?? 0 })),
    ),
    counter('lost_messages_total', 'Messages lost with a damaged buffer, over all starts', one(ledger.lost.messages)),
    counter('intake_faults_total', 'Faults of the program while looking at a message; it was accepted all the same', one(intake.faults)),
    counter('without_message_id_total', 'Messages without an id while ids are configured', one(intake.withoutMessageId)),
    counter('device_buckets_overflowed_total', 'Messages of devices that had to share a bucket', one(intake.buckets.overflowed)),
    ...deviceMetrics(snapshot.devices),
    ...sourceMetrics(snapshot),
  ]
}

function sourceMetrics({ sources }: Snapshot): readonly Metric[] {
  return [
    gauge(
      'source_up',
      '1 while the source takes messages',
      sources.map((source) => ({ labels: { source: source.name }, value: source.state === 'up' ? 1 : 0 })),
    ),
    gauge(
      'source_connections',
      'Open MQTT connections',
      sources.map((source) => ({ labels: { source: source.name }, value: source.connections })),
    ),
    counter(
      'source_refused_connects_total',
      'Connects refused since the start',
      sources.flatMap((source) =>
        Object.entries(source.refused ?? {}).map(([reason, value]) => ({ labels: { source: source.name, reason }, value })),
      ),
    ),
    counter(
      'source_answers_total',
      'Answers of devices to their settings since the start; they are no log messages',
      sources.flatMap(({ name, answers }) =>
        Object.entries(answers ?? {}).map(([outcome, value]) => ({ labels: { source: name, outcome }, value })),
      ),
    ),
    counter(
      'source_notices_total',
      'Losses outside the gateway that a source learnt of',
      sources.map((source) => ({
        labels: { source: source.name },
        value: source.notices.reduce((sum, notice) => sum + notice.count, 0),
      })),
    ),
  ]
}

function bufferMetrics(snapshot: Snapshot): readonly Metric[] {
  const { outbox } = snapshot
  const lanes = (pick: (lane: (typeof LANES)[number]) => number): MetricSample[] =>
    LANES.map((lane) => ({ labels: { lane }, value: pick(lane) }))
  return [
    gauge(
      'buffer_messages',
      'Messages in the buffer',
      lanes((lane) => outbox.lanes[lane].messages),
    ),
    gauge(
      'buffer_payload_bytes',
      'Payload bytes in the buffer',
      lanes((lane) => outbox.lanes[lane].bytes),
    ),
    gauge(
      'buffer_oldest_timestamp_seconds',
      'Receive time of the oldest message; 0 when empty',
      lanes((lane) => (outbox.lanes[lane].oldestMs ?? 0) / 1_000),
    ),
    gauge('buffer_used_bytes', 'Bytes of the buffer file in use', one(outbox.usedBytes)),
    gauge('buffer_max_bytes', 'Limit of the buffer file', one(outbox.maxBytes)),
    gauge('buffer_free_disk_bytes', 'Free bytes of the file system that holds the buffer', one(outbox.freeDiskBytes)),
    gauge('buffer_blocked', '1 while intake waits for room', one(outbox.blockedReason === undefined ? 0 : 1)),
    gauge('buffer_in_flight_messages', 'Messages received and not yet durable', one(outbox.inFlight.messages)),
    gauge('buffer_in_flight_bytes', 'Payload bytes received and not yet durable', one(outbox.inFlight.bytes)),
    counter('buffer_commits_total', 'Durable commits since the start', one(outbox.commits)),
    gauge('dead_letters', 'Records that Kafka refused for good, kept aside', one(outbox.deadLetters)),
  ]
}

function kafkaMetrics(snapshot: Snapshot): readonly Metric[] {
  const { relay } = snapshot
  return [
    gauge('kafka_up', '1 while nothing stands in the way to Kafka', one(relay.reason === undefined ? 1 : 0)),
    counter(
      'kafka_delivered_messages_total',
      'Messages committed to Kafka since the start',
      LANES.map((lane) => ({ labels: { lane }, value: relay.delivered[lane] })),
    ),
    counter('kafka_transactions_total', 'Transactions committed since the start', one(relay.transactions)),
    counter('kafka_sent_bytes_total', 'Payload bytes committed since the start', one(relay.bytes)),
    counter('kafka_redelivery_possible_total', 'Messages sent again although they may be in Kafka', one(relay.redeliveryPossible)),
    counter('kafka_dead_lettered_total', 'Messages dead-lettered since the start', one(relay.deadLettered)),
    gauge(
      'kafka_last_progress_age_seconds',
      'Time since the relay last made progress',
      one(Math.max(0, snapshot.monotonicMs - relay.lastProgressMs) / 1_000),
    ),
  ]
}

function cpuSeconds(): number {
  const usage = process.cpuUsage()
  return (usage.user + usage.system) / 1e6
}

function one(value: number): MetricSample[] {
  return [{ labels: {}, value }]
}

function gauge(name: string, help: string, samples: readonly MetricSample[]): Metric {
  return { name, type: 'gauge', help, samples }
}

function counter(name: string, help: string, samples: readonly MetricSample[]): Metric {
  return { name, type: 'counter', help, samples }
}
