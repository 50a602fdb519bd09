/** Wires the daemon: the one place where flows, adapters and the store meet. */
import { HttpEndpoint } from '../adapters/control/server.ts'
import type { Settings } from '../config/settings.ts'
import type { Component } from './component.ts'
import { LiveConfiguration } from './compose/configuration.ts'
import { Holds } from './compose/holds.ts'
import { Moving } from './compose/moving.ts'
import { Overrides } from './compose/overrides.ts'
import { partsOf, type Parts } from './compose/parts.ts'
import { deviceSources } from './compose/device-routes.ts'
import type { PatchDesk } from './compose/patch-desk.ts'
import { passwordRoute } from './compose/password-route.ts'
import type { PatchPath } from './compose/patches.ts'
import { reconfigure } from './compose/reload.ts'
import { controlRoutes, metricsRoutes } from './compose/routes.ts'
import type { Start } from './compose/starting.ts'
import { GatewayError, messageOf } from './errors.ts'
import { submitEvent } from './event.ts'
import { Monitor, type Watched } from './monitor.ts'
import type { PatchFigures } from './patch-figures.ts'
import type { Log } from './ports.ts'
import type { RelayHold } from './relay/relay.ts'
import { statusDocument, type Snapshot } from './status.ts'
import { Supervisor } from './supervisor.ts'
import { VERSION } from './version.ts'

/** A wired daemon, not yet started. */
export class Gateway {
  readonly log: Log
  readonly #start: Start
  readonly #parts: Parts
  readonly #configuration: LiveConfiguration
  readonly #monitor: Monitor
  readonly #patches: PatchPath | undefined
  readonly #moving: Moving
  readonly #supervisor: Supervisor

  constructor(start: Start, Patches: typeof PatchPath | undefined) {
    const { settings } = start.layered.loaded
    const snapshot = () => this.#monitor.snapshot()
    this.#start = start
    this.#parts = partsOf(settings, {
      inForce: () => this.#inForce,
      metricsRoutes: metricsRoutes(snapshot),
      report: (type, document) => this.#report(type, document),
      page: {
        gateway: settings.gateway.id,
        configFile: start.files.path,
        status: () => statusDocument(snapshot()),
        control: () => routes,
        report: (type, document) => this.#report(type, document),
      },
      settle: async () => this.#patches?.sourcesChanged(),
    })
    const { clock, log, outbox, account, devices, intake, sources, knownDevices, metrics, page, relay } = this.#parts
    const { memory } = outbox
    this.log = log
    const takeOver = (inForce: Settings, wanted: Settings) => reconfigure(this.#parts, inForce, wanted)
    const report = (type: string, document: object): void => this.#report(type, document)
    this.#configuration = new LiveConfiguration(start.layered, { ...start, memory, clock, log, takeOver, report })
    const overrides = new Overrides({ memory, clock, log, configuration: this.#configuration })
    const holds = new Holds({ memory, clock, log, report, onChange: () => this.#patches?.lookAgain() })
    this.#moving = new Moving(this.#parts, () => this.#inForce, report)
    this.#configuration.onChange(() => this.#moving.imports.configure(this.#inForce))
    this.#patches = this.#patchPath(settings, Patches)
    const patches = (): PatchFigures | undefined => this.#patches?.figures(holds.current())
    this.#monitor = new Monitor(
      { ...watched(this.#configuration, overrides, this.#parts), patches, moves: () => this.#moving.figures() },
      clock,
      log,
    )
    const routes = controlRoutes({
      snapshot,
      outbox,
      ledger: account,
      deadLetters: outbox.deadLetters,
      configuration: this.#configuration,
      overrides,
      patches: { holds, memory, clock, desk: () => deskOf(this.#patches) },
      devices: deviceSources(this.#parts, () => this.#inForce),
    })
    const control = new HttpEndpoint(
      'control',
      { socketPath: settings.control.socket },
      [...routes, ...this.#moving.routes, passwordRoute(sources)],
      log,
    )
    // The buffer first, since its lock proves that no other daemon runs here; the sources late, when all can accept.
    // The socket answers before the rest starts and until it has stopped: a drain must be seen. The configuration ends
    // first: a change that is under way is whole before anything stops.
    const components: Component[] = [outbox, account, control, metrics, page, relay, this.#monitor, knownDevices, devices, intake, sources]
    const last: Component[] = [
      ...this.#moving.components,
      overrides,
      holds,
      this.#configuration,
      ...(this.#patches === undefined ? [] : [this.#patches]),
    ]
    this.#supervisor = new Supervisor([...components, ...last], clock, log)
  }

  /** With a layer on trial, a start that fails is remembered: the next one is made without that layer. */
  async start(signal: AbortSignal): Promise<void> {
    const { mark, trial, layered } = this.#start
    try {
      await this.#supervisor.start(signal)
    } catch (error) {
      if (trial !== undefined && !signal.aborted) mark.failed(trial, messageOf(error))
      throw error
    }
    if (trial !== undefined) mark.clear()
    this.#monitor.running()
    this.log.info({ version: VERSION, gateway: layered.loaded.settings.gateway.id }, 'the pipeline accepts deliveries')
  }

  /** The start was made with settings on trial: without them, another one may succeed. */
  get onTrial(): boolean {
    return this.#start.trial !== undefined
  }

  /** All figures of this instant. */
  snapshot(): Snapshot {
    return this.#monitor.snapshot()
  }

  ended(): Promise<never> {
    return this.#supervisor.ended()
  }

  get drainMs(): number {
    return this.#inForce.shutdown.drainMs
  }

  /** Ends at once, as a kill would; resolves when the buffer's thread has gone. */
  abandon(): Promise<void> {
    return this.#parts.outbox.abandon()
  }

  /** Finishes accepted work within `shutdown.drain`. */
  async stop(): Promise<void> {
    this.#monitor.stopping()
    await this.#supervisor.stop(this.#parts.clock.monotonicMs() + this.#inForce.shutdown.drainMs)
    this.log.info({}, 'stopped')
  }

  /** Reads the files anew and applies what can change while it runs. Never rejects. */
  reload(): Promise<void> {
    return this.#configuration.reload()
  }

  /** Undefined while no etcd is named. It starts last and ends first: a patch works on what runs. */
  #patchPath({ etcd }: Settings, Patches: typeof PatchPath | undefined): PatchPath | undefined {
    if (etcd === undefined || Patches === undefined) return undefined
    const { clock, log, outbox, sources } = this.#parts
    const parts = {
      clock,
      log,
      memory: outbox.memory,
      configuration: this.#configuration,
      settings: () => this.#inForce,
      verdict: () => this.#monitor.snapshot().verdict,
      pipeline: () => this.#monitor.pipeline(),
      publishers: () => sources.publishers(),
      hold: (why: RelayHold | undefined) => this.#moving.hold(why),
    }
    const path = new Patches(parts, etcd)
    this.#configuration.onChange(() => path.settingsChanged())
    return path
  }

  get #inForce(): Settings {
    return this.#configuration.inForce
  }

  /** A record of the gateway's own for the events topic; nobody reads it while no Kafka is named. */
  #report(type: string, document: object): void {
    const { outbox, clock } = this.#parts
    const { gateway, kafka } = this.#inForce
    if (kafka !== undefined) submitEvent({ outbox, gateway: gateway.id, wallMs: clock.wallMs() }, type, document)
  }
}

/**
 * Rejects when the settings can't be wired; with a layer on trial the next start is made without it. What only the
 * patch path needs is some 15 MiB of code and packages: a box without etcd does not load it.
 */
export async function compose(start: Start): Promise<Gateway> {
  const needsPatches = start.layered.loaded.settings.etcd !== undefined
  const patches = needsPatches ? (await import('./compose/patches.ts')).PatchPath : undefined
  try {
    return new Gateway(start, patches)
  } catch (error) {
    if (start.trial === undefined) throw error
    start.mark.failed(start.trial, messageOf(error))
    throw new GatewayError('transient', `no start with the settings on trial: ${messageOf(error)}`, { cause: error })
  }
}

function deskOf(path: PatchPath | undefined): PatchDesk {
  if (path !== undefined) return path.desk
  const remedy = 'name it: etcd: { endpoints: ["https://host:2379"] }'
  throw new GatewayError('rejected', 'no patches come to this box: no etcd is named in its configuration', { remedy })
}

function watched(
  configuration: LiveConfiguration,
  overrides: Overrides,
  { outbox, devices, intake, relay, account, sources, clock, metrics, page }: Parts,
): Omit<Watched, 'patches'> {
  return {
    identity: { pid: process.pid, version: VERSION, gateway: configuration.inForce.gateway.id, startedMs: clock.wallMs() },
    sources: () => sources.state(),
    intake: () => intake.counters(),
    devices: () => devices.figures(),
    outbox: () => outbox.state(),
    relay: () => relay.state(),
    whenFull: () => {
      const { urgent, normal, deferred } = configuration.inForce.buffer.lanes
      return { urgent: urgent.whenFull, normal: normal.whenFull, deferred: deferred.whenFull }
    },
    configuration: () => ({
      overrides: overrides.list(),
      leftOut: configuration.leftOut,
      refused: configuration.refused,
      waiting: [metrics.waiting, page.waiting].filter((one) => one !== undefined),
    }),
    ledger: account,
    report: (record) => {
      if (configuration.inForce.kafka !== undefined) outbox.submitInternal(record)
    },
  }
}
