/** Runs the real daemon as a child, the way systemd would: start, kill, restart, ask its control socket. */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ControlClient } from '../../adapters/control/client.ts'
import type { LedgerDocument } from '../../daemon/cli/ledger-view.ts'
import type { StatusDocument } from '../../daemon/status.ts'
import { lastLines } from '../services/program.ts'

const PROGRAM = fileURLToPath(new URL('../../daemon/edge-gateway.js', import.meta.url))

/** How the program is run, where it differs from the product's own way. */
export interface Launch {
  /** Another copy of the program. */
  readonly program?: string
  readonly env?: Readonly<Record<string, string>>
}

export class GatewayProgram {
  readonly #launch: Launch
  readonly #configFile: string
  readonly #socketPath: string
  readonly #logFile: string
  #child: ChildProcess | undefined
  #exit: Promise<number | string> | undefined

  constructor(configFile: string, socketPath: string, logFile: string, launch: Launch = {}) {
    this.#launch = launch
    this.#configFile = configFile
    this.#socketPath = socketPath
    this.#logFile = logFile
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  /** Resolves when the pipeline accepts deliveries. */
  async start(): Promise<void> {
    await this.#untilReady(this.launch())
  }

  /** Starts the program without waiting for it. */
  launch(): ChildProcess {
    const log = openSync(this.#logFile, 'a')
    const { program = PROGRAM, env } = this.#launch
    const child = spawn(process.execPath, [program, 'run', '--config', this.#configFile], {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
    })
    closeSync(log)
    this.#child = child
    this.#exit = new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal ?? 'unknown')))
    return child
  }

  /** Sends the signal and waits until the program has gone; resolves with its exit code or signal. */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | string> {
    this.#child?.kill(signal)
    return (await this.#exit) ?? 'not started'
  }

  /** Resolves when the program ends by itself. */
  ended(): Promise<number | string> {
    return this.#exit ?? Promise.resolve('not started')
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async status(): Promise<StatusDocument> {
    return (await this.ask('/status')) as StatusDocument
  }

  async ledger(): Promise<LedgerDocument> {
    return (await this.ask('/ledger')) as LedgerDocument
  }

  async ask(path: string): Promise<unknown> {
    const client = new ControlClient(this.#socketPath)
    try {
      return await client.get(path)
    } finally {
      await client.close()
    }
  }

  async #untilReady(child: ChildProcess): Promise<void> {
    for (let attempt = 0; attempt < 600; attempt += 1) {
      const ended = child.exitCode ?? child.signalCode
      if (ended !== null)
        throw new Error(`the gateway ended with ${ended} during its start; its log ends with:\n${lastLines(this.#logFile)}`)
      const state = await this.status()
        .then((status) => status.verdict.state)
        .catch(() => 'starting')
      if (state !== 'starting') return
      await sleep(50)
    }
    throw new Error(`the gateway was not ready after 30 s; its log ends with:\n${lastLines(this.#logFile)}`)
  }
}
