/** Who has a port that the gateway was to have, and the way out. */
import { readFileSync, statSync } from 'node:fs'
import { portOwner } from '../../adapters/host/probe-ports.ts'
import type { Settings } from '../../config/settings.ts'
import { lockOwner } from '../../store/lock.ts'
import type { PortOwner } from '../doctor/facts.ts'
import { GatewayError, type ErrorKind } from '../errors.ts'

/** `mosquitto (pid 612)`; only its user where this one may not look at the program. */
export function ownerWords({ pid, program, uid }: PortOwner): string {
  return pid === undefined ? `a program of user ${userName(uid)}` : `${program ?? 'a program'} (pid ${pid})`
}

export function wayOut(owner: PortOwner, port: number): string {
  const isBroker = owner.program === 'mosquitto' || userName(owner.uid) === 'mosquitto'
  const use = `let the gateway be its client (mqtt.connect: { plant: { url: "mqtt://127.0.0.1:${port}" } })`
  return isBroker
    ? `${use}, choose another port, or stop it: systemctl disable --now mosquitto`
    : `choose another port, or stop that program (sudo ss -ltnp 'sport = :${port}')`
}

export function isPortTaken(error: unknown): error is GatewayError {
  return takenPort(error) !== undefined
}

function takenPort(error: unknown): number | undefined {
  if (!(error instanceof GatewayError)) return undefined
  const { code, port } = (error.cause ?? {}) as { readonly code?: unknown; readonly port?: unknown }
  return code === 'EADDRINUSE' && typeof port === 'number' ? port : undefined
}

/** The error of a port that is taken with its owner in it, and as one that may pass; any other as it is. */
export function withOwner(error: unknown, kind: ErrorKind = 'transient'): unknown {
  const port = takenPort(error)
  if (!(error instanceof GatewayError) || port === undefined) return error
  const owner = portOwner(port)
  const { cause } = error
  if (owner === undefined) return new GatewayError(kind, error.message, { cause, ...(error.remedy && { remedy: error.remedy }) })
  return new GatewayError(kind, `${error.message}: ${ownerWords(owner)} listens on ${port}`, { cause, remedy: wayOut(owner, port) })
}

/** One line for each port of the configuration that another program has now. The daemon's own are none. */
export function takenPorts({ mqtt, metrics, page, gateway }: Settings): readonly string[] {
  const wanted = [
    ...Object.entries(mqtt.listen).map(([name, { url }]) => [`mqtt.listen.${name}.url`, url.port] as const),
    ['metrics.listen', metrics.listen?.port ?? 0] as const,
    ['page.listen', page.listen?.port ?? 0] as const,
  ]
  return wanted.flatMap(([key, port]) => {
    const owner = port === 0 ? undefined : portOwner(port)
    if (owner === undefined || isOwn(owner, gateway.dataDir)) return []
    return [`${key}: ${ownerWords(owner)} listens on ${port}; ${wayOut(owner, port)}`]
  })
}

/** Without the right to look at the program, its user tells: who owns the data directory is the daemon. */
export function isOwn(owner: PortOwner, dataDir: string): boolean {
  const daemon = lockOwner(dataDir)
  if (daemon === undefined) return false
  return owner.pid === undefined ? owner.uid === statSync(dataDir, { throwIfNoEntry: false })?.uid : owner.pid === daemon.pid
}

function userName(uid: number): string {
  try {
    return new RegExp(`^([^:\\n]+):[^:]*:${uid}:`, 'm').exec(readFileSync('/etc/passwd', 'utf8'))?.[1] ?? String(uid)
  } catch {
    // A box without the file: users have numbers only.
    return String(uid)
  }
}
