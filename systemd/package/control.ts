/** The package's own words: control file, checksums, maintainer scripts. */
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { MIN_READER, SCHEMA_VERSION } from '../../store/schema.ts'
import type { Architecture } from './architecture.ts'
import type { Tree } from './tree.ts'

const SCRIPTS = ['preinst', 'postinst', 'prerm', 'postrm']
/** libc6: the driver of SQLite asks for GLIBC_2.34; Debian 12 has 2.36. libsystemd0 is loaded at run time. */
const DEPENDS = [
  'libc6 (>= 2.34)',
  'libgcc-s1',
  'libstdc++6 (>= 11)',
  'libsystemd0 (>= 249)',
  'init-system-helpers (>= 1.54~)',
  'systemd | systemd-standalone-sysusers | systemd-sysusers',
  'systemd | systemd-standalone-tmpfiles | systemd-tmpfiles',
]
const RECOMMENDS = ['ca-certificates', 'systemd-timesyncd | time-daemon']
const DESCRIPTION = `device logs over MQTT, kept safe, forwarded to Kafka exactly once
 One small daemon for an edge box. It gathers device logs over MQTT, keeps them
 in a local buffer through days without an uplink, and forwards them to Kafka,
 each message once. An acknowledgement goes out only when the message is on the
 disk, and every message is accounted for in a durable ledger.
 .
 Signed patches from etcd change its configuration, software beside it and the
 settings of its devices: in stages through a fleet, whole or not at all on each
 box, and taken back by the box itself when its checks fail.
 .
 The package has its own Node.js runtime. edgectl looks at the box and acts on
 it; "sudo edgectl setup" is the way to begin.`

export interface Units {
  /** Those that start at boot. */
  readonly enabled: readonly string[]
  readonly others: readonly string[]
}

/** A unit with an [Install] section starts at boot. */
export function unitsIn(folder: string): Units {
  const names = readdirSync(folder)
    .filter((name) => /\.(service|socket|path|timer|target|slice)$/.test(name))
    .sort()
  const starts = (name: string): boolean => /^\[Install\]/m.test(readFileSync(`${folder}/${name}`, 'utf8'))
  return { enabled: names.filter(starts), others: names.filter((name) => !starts(name)) }
}

export function addControl(tree: Tree, { debian }: Architecture, version: string, units: Units): void {
  const entries = tree.entries()
  const files = entries.filter(({ kind }) => kind === 'file').map(({ path }) => path)
  const conffiles = files.filter((path) => path.startsWith('etc/'))
  const sums = files
    .filter((path) => !conffiles.includes(path))
    .map((path) => `${createHash('md5').update(tree.read(path)).digest('hex')}  ${path}\n`)
  tree.write('DEBIAN/md5sums', sums.join(''))
  tree.write('DEBIAN/conffiles', conffiles.map((path) => `/${path}\n`).join(''))
  tree.write('DEBIAN/control', controlText(debian, version, sizeOf(tree, entries)))
  for (const name of SCRIPTS) tree.write(`DEBIAN/${name}`, scriptText(name, version, units), 0o755)
}

function controlText(architecture: string, version: string, kibibytes: number): string {
  return `Package: edge-gateway
Version: ${version}
Architecture: ${architecture}
Maintainer: Edge gateway maintainers <edge-gateway@localhost>
Installed-Size: ${kibibytes}
Depends: ${DEPENDS.join(', ')}
Recommends: ${RECOMMENDS.join(', ')}
Section: net
Priority: optional
Store-Format: ${SCHEMA_VERSION}
Store-Min-Reader: ${MIN_READER}
Description: ${DESCRIPTION}
`
}

/** As dpkg-gencontrol counts (deb-substvars(5)): a KiB for each file begun, folder or link. */
function sizeOf(tree: Tree, entries: ReturnType<Tree['entries']>): number {
  const sizes = entries.map(({ path, kind }) => (kind === 'file' ? Math.ceil(tree.read(path).length / 1024) : 1))
  return sizes.reduce((sum, size) => sum + size, 0)
}

function scriptText(name: string, version: string, { enabled, others }: Units): string {
  const values: Readonly<Record<string, string>> = {
    VERSION: version,
    STORE_FORMAT: String(SCHEMA_VERSION),
    ENABLED_UNITS: enabled.join(' '),
    // Templates have no instance of their own to restart or stop.
    OTHER_UNITS: others.filter((unit) => unit.endsWith('.service') && !unit.includes('@')).join(' '),
    ALL_UNITS: [...enabled, ...others].filter((unit) => !unit.includes('@')).join(' '),
  }
  const text = readFileSync(new URL(`scripts/${name}`, import.meta.url), 'utf8')
  return text.replaceAll(/@([A-Z_]+)@/g, (all, key: string) => values[key] ?? all)
}
