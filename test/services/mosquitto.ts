import { mkdirSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { freePort } from './ports.ts'
import { startService } from './service.ts'
import type { Service } from './service.ts'

export interface MosquittoOptions {
  readonly dir: string
  readonly port?: number
  /**
   * Lines added to mosquitto.conf, behind the listener's: `max_queued_messages 100000`,
   * `allow_anonymous false`, or `cafile`, `certfile` and `keyfile` for TLS.
   */
  readonly conf?: readonly string[]
}

/** Starts mosquitto on 127.0.0.1, anonymous, with persistence in `dir`. */
export async function startMosquitto(options: MosquittoOptions): Promise<Service> {
  const { dir } = options
  const port = options.port ?? (await freePort())
  mkdirSync(join(dir, 'state'), { recursive: true })
  const confFile = join(dir, 'mosquitto.conf')
  writeFileSync(confFile, confLines(dir, port, options.conf ?? []).join('\n') + '\n')
  return startService({
    name: 'mosquitto',
    endpoint: `${isTls(options.conf) ? 'mqtts' : 'mqtt'}://127.0.0.1:${port}`,
    port,
    dir,
    logFile: join(dir, 'mosquitto.log'),
    file: 'mosquitto',
    args: ['-c', confFile],
    // Debian keeps the broker in /usr/sbin, which is not on every user's path.
    env: { PATH: `${process.env['PATH'] ?? ''}:/usr/sbin` },
    isReady: () => reacts(port),
    readyTimeoutMs: 30_000,
    graceMs: 10_000,
  })
}

function confLines(dir: string, port: number, extra: readonly string[]): string[] {
  const lines = [
    'persistence true',
    `persistence_location ${join(dir, 'state')}/`,
    'log_dest stderr',
    'log_timestamp_format %Y-%m-%dT%H:%M:%S',
  ]
  // Started by root, mosquitto would become user "mosquitto", who cannot write here.
  if (process.getuid?.() === 0) lines.push('user root')
  return [...lines, `listener ${port} 127.0.0.1`, 'allow_anonymous true', ...extra]
}

function isTls(conf: readonly string[] = []): boolean {
  return conf.some((line) => line.startsWith('certfile '))
}

/**
 * True when the port reacts to a CONNECT (MQTT 3.1.1 section 3.1). "Refused" will do, and so will
 * a close: a broker that asks for a password or for TLS is ready. It listens only after it has loaded its state.
 */
function reacts(port: number): Promise<boolean> {
  const packet = Buffer.from([0x10, 0x11, 0, 4, 0x4d, 0x51, 0x54, 0x54, 4, 2, 0, 5, 0, 5, ...Buffer.from('probe')])
  return new Promise((resolve) => {
    let connected = false
    const socket = connect(port, '127.0.0.1', () => {
      connected = true
      socket.write(packet)
    })
    const finish = (ready: boolean): void => {
      socket.destroy()
      resolve(ready)
    }
    socket.setTimeout(1_000, () => finish(false))
    socket.once('data', () => finish(true))
    socket.once('error', () => finish(connected))
    socket.once('close', () => finish(connected))
  })
}
