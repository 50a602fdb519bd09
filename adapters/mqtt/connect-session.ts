/** The session at a broker while a connection lasts: what was found, what is subscribed, what the broker lost. */
import { messageOf } from '../../daemon/errors.ts'
import type { Log } from '../../daemon/ports.ts'
import { DROPS_TOPIC, readDrops } from './connect-drops.ts'
import type { Accepted, Link } from './connect-link.ts'
import type { SessionBook } from './connect-memory.ts'
import type { Notices } from './connect-notices.ts'
import type { CheckedSettings, ConnectFilter } from './connect-settings.ts'
import { changeAnswers, findSession, subscribe, subscribeTo, takesRetained } from './connect-subscribe.ts'
import type { Found, Subscribed, Wanted } from './connect-subscribe.ts'

const NOTHING_FOUND: Found = { isLost: false, isStrange: false, established: [], formerClientId: undefined }

export interface SessionPorts {
  readonly name: string
  readonly settings: CheckedSettings
  readonly book: SessionBook
  readonly notices: Notices
  readonly log: Log
  /** Topic filters of answers to settings that are wanted now. */
  readonly answers: () => readonly string[]
}

export class Session {
  readonly #ports: SessionPorts
  #found = NOTHING_FOUND
  #changing: Promise<void> = Promise.resolve()
  // Brokers that closed the connection when asked for their statistics.
  readonly #secretive = new Set<string>()

  constructor(ports: SessionPorts) {
    this.#ports = ports
  }

  /** At CONNACK: states what the broker lost. */
  begin(url: string, accepted: Accepted): void {
    const { name, settings, book, notices, log } = this.#ports
    const { clientId, sessionExpirySeconds, protocolVersion } = settings
    this.#found = findSession(accepted, book.of(url), clientId)
    const { isLost, formerClientId, isStrange } = this.#found
    if (isStrange) {
      log.warn(
        { source: name, broker: url },
        'the broker has a session of this client id that is not remembered here: what another program or an earlier config subscribed to goes on, and may bring copies',
      )
    }
    if (isLost) {
      notices.add(
        'session-lost',
        1,
        () => `${url} no longer had the session of "${clientId}": what it kept for the gateway since the last connection is lost`,
      )
    }
    if (formerClientId !== undefined) {
      notices.add(
        'client-id-changed',
        1,
        () => `the client id changed from "${formerClientId}": what ${url} keeps for the old one does not come`,
      )
    }
    const granted = accepted.sessionExpirySeconds
    if (protocolVersion === 5 && granted !== undefined && granted < sessionExpirySeconds) {
      notices.add(
        'expiry-lowered',
        1,
        () => `${url} keeps the session for ${granted} s only, not for the ${sessionExpirySeconds} s asked for`,
      )
    }
  }

  /** `again`: only those that were refused before, on this same connection. Rejects when the connection ends. */
  async subscribe(link: Link, again?: readonly ConnectFilter[]): Promise<Subscribed> {
    const { book, notices } = this.#ports
    const subscribed = await (again === undefined ? subscribe(link, this.#wanted(), book, this.#found) : subscribeTo(link, again))
    const { lowered, answersRefused } = subscribed
    this.#tellRefused(answersRefused)
    if (lowered.length > 0) {
      notices.add(
        'qos-lowered',
        1,
        () => `${link.broker.url} grants only QoS 0 for ${lowered.join(', ')}: messages under way at a cut are lost`,
      )
    }
    return subscribed
  }

  /** The answer topics have changed. Rejects when the connection ends; one change at a time. */
  changeAnswers(link: Link): Promise<void> {
    const { book } = this.#ports
    this.#changing = this.#changing.then(async () => {
      this.#tellRefused(await changeAnswers(link, this.#wanted(), book))
    })
    return this.#changing.catch((error: unknown) => {
      this.#changing = Promise.resolve()
      throw error
    })
  }

  #tellRefused(refused: readonly string[]): void {
    const { name, log } = this.#ports
    if (refused.length > 0)
      log.warn({ source: name, refused }, 'the broker refuses the topics of answers to settings: devices will seem silent')
  }

  #wanted(): Wanted {
    const { settings, answers } = this.#ports
    return { clientId: settings.clientId, filters: settings.filters, answers: answers() }
  }

  /** The connection has lasted: the retained messages of its subscriptions have come. */
  async establish(url: string): Promise<void> {
    const { settings, book } = this.#ports
    const known = book.of(url)
    if (known !== undefined) await book.put(url, { ...known, established: settings.filters.map(({ filter }) => filter) })
  }

  takesRetained(topic: string): boolean {
    return takesRetained(this.#ports.settings, this.#found.established, topic)
  }

  /** Asks for the broker's own count of dropped messages. Never rejects; without permission nothing is counted. */
  async watchDrops(link: Link): Promise<void> {
    const { url } = link.broker
    if (this.#secretive.has(url)) return
    // Until the broker has answered: some close the connection instead of refusing.
    this.#secretive.add(url)
    try {
      const [code = 0x80] = await link.subscribe([{ filter: DROPS_TOPIC, qos: 0 }], 0)
      this.#secretive.delete(url)
      if (code >= 0x80)
        this.#ports.log.debug({ source: this.#ports.name, broker: url }, 'the broker does not tell how many messages it drops')
    } catch (error) {
      this.#ports.log.debug(
        { source: this.#ports.name, broker: url, reason: messageOf(error) },
        'no answer to the question how many messages the broker drops',
      )
    }
  }

  /** True when the message is the broker's own and not a device's. */
  readOwnTopic(url: string, topic: string, payload: Uint8Array): boolean {
    if (topic !== DROPS_TOPIC) return false
    const { book, notices } = this.#ports
    const known = book.of(url)
    const reading = readDrops(payload, known?.dropped)
    if (known === undefined || reading === undefined) return true
    if (reading.total !== known.dropped) void book.put(url, { ...known, dropped: reading.total })
    if (reading.rise > 0) {
      notices.add(
        'broker-drops',
        reading.rise,
        (total) =>
          `the broker dropped ${total} messages before they reached the gateway or another of its subscribers: see its queue limits`,
      )
    }
    return true
  }
}
