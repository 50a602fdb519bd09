import { createHash } from 'node:crypto'
import { readFileSync, statfsSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { type Json, isObject, objectOf, valueAt } from './merge.ts'
import type { Path } from './problem.ts'

/** What the config takes from the box that it runs on. */
export interface Host {
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Text of a small file, or undefined when it is absent or not readable. */
  readonly readText: (path: string) => string | undefined
  /** Size of the disk that holds this path or will hold it; undefined when unknown. */
  readonly diskBytes: (path: string) => number | undefined
}

/** A default that depends on the box, and what it was taken from. */
interface HostDefault {
  readonly path: Path
  readonly value: Json
  readonly source: string
}

/** Where the package has the configuration and the data. */
export const STANDARD_FILE = '/etc/edge-gateway/config.yaml'
export const DATA_DIR = '/var/lib/edge-gateway'

/** Where systemd puts the credentials of the unit: a command in a technician's shell means the same files as the daemon. */
const CREDENTIALS_DIRECTORY = '/run/credentials/edge-gateway.service'

/** This box. `environment` is a copy: a later change of the variables changes nothing. */
export function thisHost(): Host {
  return { environment: { CREDENTIALS_DIRECTORY, ...process.env }, readText: readSmallFile, diskBytes: sizeOfDisk }
}

/**
 * The gateway's id, from what stays the same for the life of the board: `gw-` and the first 12 hex digits of a
 * SHA-256. The serial number comes first, since machine-id is the same on all cards of one image. Only root may
 * read the DMI serial; the unit hands it over as the systemd credential `board-serial`, so that a check run as
 * root and the daemon under its own user take the same id. A host name is not stable and never used.
 * Undefined when the box has nothing of the kind.
 */
export function deriveGatewayId(
  host: Pick<Host, 'environment' | 'readText'>,
): { readonly id: string; readonly source: string } | undefined {
  const credentials = host.environment['CREDENTIALS_DIRECTORY']
  const serials = [
    '/proc/device-tree/serial-number',
    ...(credentials === undefined ? [] : [`${credentials}/board-serial`]),
    '/sys/class/dmi/id/product_serial',
  ]
  for (const source of serials) {
    const serial = cleaned(host.readText(source))
    if (isSerial(serial)) return { id: idFrom(serial), source }
  }
  const source = '/etc/machine-id'
  const machine = cleaned(host.readText(source))
  return /^[0-9a-f]{32}$/.test(machine) ? { id: idFrom(machine), source } : undefined
}

/** The prefix keeps the machine id itself secret, as machine-id(5) asks. */
function idFrom(text: string): string {
  return `gw-${createHash('sha256').update(`edge-gateway\n${text}`).digest('hex').slice(0, 12)}`
}

/** A device tree's strings end in a zero byte. */
function cleaned(text: string | undefined): string {
  return (text ?? '').replaceAll('\0', '').trim()
}

/** Makers leave placeholders: "To be filled by O.E.M.", "Default string", "0123456789", "0000000000". */
function isSerial(text: string): boolean {
  if (text.length < 4 || text.length > 200 || new Set(text).size < 3) return false
  return !/o\.?e\.?m|default|not (specified|applicable|available)|none|unknown|serial|invalid|^n\/a|^0?123456789/i.test(text)
}

/** Defaults that depend on the box, for what the merged input leaves open. */
export function hostDefaults(input: Json, host: Host): readonly HostDefault[] {
  const defaults: HostDefault[] = []
  const fill = (path: Path, value: () => Omit<HostDefault, 'path'> | undefined): void => {
    const made = valueAt(input, path) === undefined ? value() : undefined
    if (made !== undefined) defaults.push({ path, ...made })
  }
  fill(['gateway', 'id'], () => {
    const derived = deriveGatewayId(host)
    return derived && { value: derived.id, source: `default, from ${derived.source}` }
  })
  fill(['gateway', 'dataDir'], () => stateFolder(host) ?? { value: DATA_DIR, source: 'default' })
  const dataDir = valueAt(input, ['gateway', 'dataDir']) ?? defaults.find(({ path }) => path[1] === 'dataDir')?.value
  // Not in a folder that only the daemon's environment names: edgectl has to find it from a technician's shell.
  fill(['control', 'socket'], () => ({ value: `${isAbsolute(dataDir) ? dataDir : DATA_DIR}/control.sock`, source: 'default' }))
  return [...defaults, ...mqttDefaults(input, valueAt(input, ['gateway', 'id']) ?? defaults.find(({ path }) => path[1] === 'id')?.value)]
}

/** A folder that is none is told by itself; the socket must not be told with it. */
function isAbsolute(folder: Json | undefined): folder is string {
  return typeof folder === 'string' && folder.startsWith('/')
}

/** systemd lists several folders with colons between; the first is the service's own. */
function stateFolder(host: Host): Omit<HostDefault, 'path'> | undefined {
  const folder = host.environment['STATE_DIRECTORY']?.split(':')[0]
  return folder?.startsWith('/') === true ? { value: folder, source: 'default, from STATE_DIRECTORY' } : undefined
}

/** A box that names no source listens on loopback; one that has a broker needs no listener. */
function mqttDefaults(input: Json, id: Json | undefined): readonly HostDefault[] {
  const listen = valueAt(input, ['mqtt', 'listen'])
  const connect = valueAt(input, ['mqtt', 'connect'])
  const defaults: HostDefault[] = []
  if (listen === undefined && connect === undefined) {
    const local = objectOf([
      ['url', 'mqtt://127.0.0.1:1883'],
      ['auth', 'none'],
    ])
    defaults.push({ path: ['mqtt', 'listen'], value: objectOf([['local', local]]), source: 'default' })
  }
  for (const [name, entry] of isObject(connect) ? Object.entries(connect) : []) {
    if (!isObject(entry) || entry['clientId'] !== undefined || typeof id !== 'string') continue
    defaults.push({ path: ['mqtt', 'connect', name, 'clientId'], value: `${id}-${name}`, source: 'default' })
  }
  return defaults
}

function readSmallFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').slice(0, 4096)
  } catch {
    // Absent or not ours to read: the next source is asked, and the caller says so when none is left.
    return undefined
  }
}

/** The folder may not exist yet: its nearest parent that does is on the same disk, as far as anyone can tell. */
function sizeOfDisk(path: string): number | undefined {
  for (let folder = path; ; folder = dirname(folder)) {
    if (statSync(folder, { throwIfNoEntry: false }) !== undefined) {
      const { blocks, bsize } = statfsSync(folder)
      return blocks * bsize
    }
    if (folder === dirname(folder)) return undefined
  }
}
