/** Wires what takes messages out of the box on a medium, and into it: exports, imports, backups. */
import { systemRandom } from '../../adapters/host/clock.ts'
import type { Settings } from '../../config/settings.ts'
import type { Component } from '../component.ts'
import { ExportDesk, type ExportDeskParts } from '../move/export-desk.ts'
import type { Route } from '../ports.ts'
import type { RelayHold } from '../relay/relay.ts'
import type { Snapshot } from '../status.ts'
import { VERSION } from '../version.ts'
import { Backups } from './backups.ts'
import { Imports } from './imports/imports.ts'
import { moveRoutes } from './move-routes.ts'
import type { Parts } from './parts.ts'
import { RelayHolds } from './relay-holds.ts'
import { relaySettings } from './settings.ts'

export class Moving {
  readonly imports: Imports
  readonly components: readonly Component[]
  readonly routes: readonly Route[]
  readonly #holds: RelayHolds

  constructor({ outbox, relay, clock, log }: Parts, inForce: () => Settings, report: ExportDeskParts['report']) {
    this.#holds = new RelayHolds(relay)
    const { moves, memory } = outbox
    const draw = drawId
    const desk = new ExportDesk({
      ...{ moves, memory, clock, log, draw, report },
      version: VERSION,
      origin: () => originOf(inForce()),
      hold: (why) => this.#holds.set('export', why),
    })
    this.imports = new Imports({
      ...{ clock, log, draw, report, random: systemRandom, settings: inForce },
      hold: (why) => this.#holds.set('import', why),
      share: (settings, fraction) => {
        const own = relaySettings(settings)
        if (Number.isFinite(own.uplinkBytesPerSecond))
          relay.configure({ ...own, uplinkBytesPerSecond: own.uplinkBytesPerSecond * fraction })
      },
    })
    const backups = new Backups({ moves, clock, draw, dataDir: () => inForce().gateway.dataDir })
    this.components = [desk, backups, this.imports]
    this.routes = moveRoutes({ desk, imports: this.imports, backups, moves })
  }

  figures(): Pick<Snapshot, 'imports' | 'importTally'> {
    return { imports: this.imports.figures(), importTally: this.imports.tally() }
  }

  /** Why nothing of the box's own may leave it, as the patch path sees it. */
  hold(why: RelayHold | undefined): void {
    this.#holds.set('identity', why)
  }
}

/** 16 hex digits. */
export function drawId(): string {
  return Buffer.from(systemRandom.bytes(8)).toString('hex')
}

/** What an export's head says of the box. */
export function originOf({ gateway, kafka }: Settings): ReturnType<ExportDeskParts['origin']> {
  const topic = kafka === undefined ? {} : { topic: kafka.topic, allowedTopics: kafka.allowedTopics }
  return { gateway: gateway.id, prefix: kafka?.prefix ?? 'edge', topic: undefined, allowedTopics: [], ...topic }
}
