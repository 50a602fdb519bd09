/** `edgectl top`: the box live, a frame a second, until q. */
import type { Command } from 'commander'
import type { ControlClient } from '../../adapters/control/client.ts'
import { messageOf } from '../errors.ts'
import type { StatusDocument } from '../status.ts'
import { connect, type GlobalOptions } from './ask.ts'
import type { DevicesDocument } from './device-documents.ts'
import { harmless } from './text.ts'
import { topFrame, type TopFigures } from './top-view.ts'

const EVERY_MS = 1_000
const DEVICES_MAX = 200
/** Alternate screen, no cursor, no wrapping. */
const ENTER = '\u001b[?1049h\u001b[?25l\u001b[?7l'
const LEAVE = '\u001b[?7h\u001b[?25h\u001b[?1049l'
const HOME = '\u001b[H'
const TO_END_OF_LINE = '\u001b[K'
const TO_END_OF_SCREEN = '\u001b[J'
const SORT_KEYS: Readonly<Record<string, string>> = { r: 'rate', s: 'shed', l: 'seen', n: 'id', x: 'state' }

export function topCommand(program: Command): void {
  program
    .command('top')
    .description(
      'the box live: verdict, rates, buffer, and the devices that send most; q quits. With --json a document a second, a line each',
    )
    .addHelpText('after', '\nExample:\n  edgectl top')
    .action(async () => {
      const options = program.opts<GlobalOptions>()
      const { client } = await connect(options)
      try {
        if (options.json === true) await stream(client)
        else if (process.stdin.isTTY && process.stdout.isTTY) await new Screen(client).run()
        else console.log(topFrame(await figuresOf(client, 'rate'), process.stdout.columns ?? 80, 24).join('\n'))
      } finally {
        await client.close()
      }
    })
}

async function figuresOf(client: ControlClient, sort: string): Promise<TopFigures> {
  const [status, devices] = await Promise.all([client.get('/status'), client.get(`/devices?sort=${sort}&limit=${DEVICES_MAX}`)])
  return { status: status as StatusDocument, devices: devices as DevicesDocument, trouble: undefined, sort }
}

async function stream(client: ControlClient): Promise<void> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort())
  process.stdout.on('error', () => stop.abort())
  while (!stop.signal.aborted) {
    const { status, devices } = await figuresOf(client, 'rate')
    process.stdout.write(`${harmless(JSON.stringify({ schema: 1, status, devices }))}\n`)
    await pause(EVERY_MS, stop.signal)
  }
}

/** The terminal is as it was before, however this ends. */
class Screen {
  readonly #client: ControlClient
  readonly #stop = new AbortController()
  #figures: TopFigures = { status: undefined, devices: undefined, trouble: undefined, sort: 'rate' }
  #wake = new AbortController()

  constructor(client: ControlClient) {
    this.#client = client
  }

  async run(): Promise<void> {
    const { stdin, stdout } = process
    const stop = (): void => this.#end()
    const draw = (): void => this.#draw()
    const key = (bytes: Buffer): void => this.#key(bytes.toString('latin1'))
    const restore = (): void => {
      stdout.write(LEAVE)
      if (!stdin.destroyed) stdin.setRawMode(false)
    }
    for (const signal of SIGNALS) process.on(signal, stop)
    process.once('exit', restore)
    stdin.setRawMode(true)
    stdin.on('data', key).on('end', stop).on('error', stop)
    stdout.on('resize', draw).on('error', stop)
    stdout.write(ENTER)
    try {
      await this.#turn()
    } finally {
      restore()
      process.off('exit', restore)
      stdin.off('data', key).pause()
      stdout.off('resize', draw)
      for (const signal of SIGNALS) process.off(signal, stop)
    }
  }

  async #turn(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      this.#wake = new AbortController()
      await this.#look()
      if (this.#stop.signal.aborted) return
      this.#draw()
      await pause(EVERY_MS, this.#wake.signal)
    }
  }

  /** A daemon that is away may come back: the last figures stand, with the reason. */
  async #look(): Promise<void> {
    const { sort } = this.#figures
    try {
      this.#figures = { ...(await figuresOf(this.#client, sort)), sort: this.#figures.sort }
    } catch (error) {
      this.#figures = { ...this.#figures, trouble: messageOf(error) }
    }
  }

  #key(keys: string): void {
    for (const key of keys) {
      if (key === 'q' || key === 'Q' || key === '\u0003') return this.#end()
      const sort = SORT_KEYS[key]
      if (sort === undefined) continue
      this.#figures = { ...this.#figures, sort }
      this.#wake.abort()
    }
  }

  #end(): void {
    this.#stop.abort()
    this.#wake.abort()
    // An answer that does not come must not keep the terminal.
    void this.#client.close()
  }

  #draw(): void {
    const { columns = 80, rows = 24 } = process.stdout
    const lines = topFrame(this.#figures, columns, rows)
    process.stdout.write(`${HOME}${lines.map((line) => `${line}${TO_END_OF_LINE}`).join('\r\n')}${TO_END_OF_SCREEN}`)
  }
}

const SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGINT'] as const

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve()
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
  })
}
