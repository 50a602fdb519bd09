import type { Clock } from '../../daemon/clock.ts'
import type { Kafka, KafkaTimeouts, Log, ProducerLife } from '../../daemon/ports.ts'
import { openClient } from './client.ts'
import { readCredentials } from './credentials.ts'
import { alarmIfMissing, kafkaError, KafkaError } from './failure.ts'
import { PlainLife } from './plain-life.ts'
import { positionsTopic, type KafkaClientSettings } from './settings.ts'
import { TransactionalLife } from './transactional-life.ts'

/** The Kafka port by kafkajs 2.2.4. ARCHITECTURE.md, "Kafka client: findings", says why it is used as it is. */
export class KafkaClient implements Kafka {
  readonly #settings: KafkaClientSettings
  readonly #clock: Clock
  readonly #log: Log

  constructor(settings: KafkaClientSettings, clock: Clock, log: Log) {
    this.#settings = settings
    this.#clock = clock
    this.#log = log
  }

  async begin(timeouts: KafkaTimeouts, signal: AbortSignal): Promise<ProducerLife> {
    const credentials = await readCredentials(this.#settings)
    const client = openClient(this.#settings, credentials, timeouts, this.#log)
    const abandon = (): void => client.sockets.cut('the wait for Kafka was given up')
    signal.addEventListener('abort', abandon, { once: true })
    try {
      if (signal.aborted) throw givenUp()
      const life = new (this.#settings.delivery === 'exactly-once' ? TransactionalLife : PlainLife)(
        client,
        this.#settings,
        timeouts,
        this.#clock,
      )
      await life.begin()
      if (signal.aborted) throw givenUp()
      return life
    } catch (error) {
      client.sockets.cut('this life never began')
      throw alarmIfMissing(kafkaError(error, 'none', client.tap.take()), positionsTopic(this.#settings))
    } finally {
      signal.removeEventListener('abort', abandon)
    }
  }
}

function givenUp(): KafkaError {
  return new KafkaError({ kind: 'transient', message: 'the wait for Kafka was given up', fate: 'none' })
}
