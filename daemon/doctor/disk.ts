/** Has the disk room, is it quick enough, and how long will it last? Pure. */
import { Findings, type Check } from './check.ts'
import type { DiskFound, SyncFound } from './facts.ts'
import { size as bytes } from '../cli/text.ts'

export interface DiskFacts {
  readonly dataDir: string
  readonly disk: DiskFound
  /** Absent: it could not be tried, for `syncFault`. */
  readonly sync?: SyncFound
  readonly syncFault?: { readonly code: string; readonly words: string }
  readonly minFreeBytes: number
  readonly maxBytes: number
  /** Of the buffer and what lies beside it. */
  readonly usedBytes: number
  readonly uptimeSeconds: number
  /** By the daemon alone, and for how long it has run. */
  readonly daemon?: { readonly writtenBytes: number; readonly seconds: number }
}

export function judgeDisk(facts: DiskFacts): readonly Check[] {
  const findings = new Findings('disk')
  judgeMount(facts, findings)
  judgeRoom(facts, findings)
  judgeInodes(facts, findings)
  judgeSpeed(facts, findings)
  judgeWear(facts, findings)
  judgeLife(facts, findings)
  return findings.checks
}

function judgeMount({ disk, dataDir, syncFault }: DiskFacts, findings: Findings): void {
  const { fileSystem, device, readOnly, kind } = disk
  const words = [kind, fileSystem, device].filter((part) => part !== undefined).join(', ')
  if (readOnly === true || syncFault?.code === 'EROFS')
    return findings.fail(
      'mount',
      `the disk of ${dataDir} is mounted read-only (${words}): the kernel does that after errors`,
      'look at `dmesg`, save what matters, check the file system (fsck), and expect to replace the card or disk',
    )
  if (fileSystem === 'tmpfs' || fileSystem === 'ramfs')
    return findings.warn(
      'mount',
      `${dataDir} lies in memory (${fileSystem}): a restart of the box loses what is buffered`,
      'set gateway.dataDir to a folder on a disk',
    )
  findings.ok('mount', words === '' ? 'mounted' : words)
}

function judgeRoom({ disk, minFreeBytes, maxBytes, usedBytes, syncFault }: DiskFacts, findings: Findings): void {
  const { freeBytes, totalBytes, folder } = disk
  const free = `${bytes(freeBytes)} of ${bytes(totalBytes)} free`
  if (syncFault?.code === 'ENOSPC' || freeBytes < Math.min(minFreeBytes, totalBytes / 100))
    return findings.fail(
      'room',
      `the disk is full: ${free}, and buffer.minFreeBytes is ${bytes(minFreeBytes)}`,
      `make room: \`du -xh ${folder} --max-depth=2\`, \`journalctl --vacuum-size=100M\``,
    )
  if (freeBytes < minFreeBytes)
    return findings.fail(
      'room',
      `${free}, less than buffer.minFreeBytes (${bytes(minFreeBytes)}): the buffer does not grow, and devices wait`,
      'make room: `journalctl --vacuum-size=100M`, `apt-get clean`; or lower buffer.minFreeBytes',
    )
  const promised = Math.max(0, maxBytes - usedBytes)
  if (freeBytes - minFreeBytes < promised)
    return findings.warn(
      'room',
      `${free}; the buffer may take ${bytes(promised)} more (buffer.maxBytes ${bytes(maxBytes)}), and finds ${bytes(freeBytes - minFreeBytes)}`,
      'lower buffer.maxBytes, or make room',
    )
  findings.ok('room', `${free}; buffer ${bytes(usedBytes)} of ${bytes(maxBytes)}`)
}

function judgeInodes({ disk }: DiskFacts, findings: Findings): void {
  const { inodes, inodesFree } = disk
  if (inodes === 0) return findings.skip('inodes', 'this file system has no fixed number of them')
  const used = Math.round((100 * (inodes - inodesFree)) / inodes)
  if (inodesFree < 100)
    findings.fail(
      'inodes',
      `all inodes are in use (${inodes}): no file can be made`,
      'some folder holds very many small files: `du --inodes -xd2 / | sort -n | tail`',
    )
  else if (used >= 95)
    findings.warn(
      'inodes',
      `${used} % of the inodes are in use`,
      'some folder holds very many small files: `du --inodes -xd2 / | sort -n | tail`',
    )
  else findings.ok('inodes', `${used} % in use`)
}

/** The commit waits for one fsync, at most ten times a second. */
const SLOW_P99_MS = 100
const USELESS_P99_MS = 1_000

function judgeSpeed({ sync, syncFault, dataDir }: DiskFacts, findings: Findings): void {
  if (sync === undefined) {
    if (syncFault === undefined || ['EACCES', 'EPERM', 'ENOENT'].includes(syncFault.code))
      return findings.skip(
        'speed',
        syncFault === undefined ? 'not tried' : `no file could be made in ${dataDir} (${syncFault.code}); run the doctor with sudo`,
      )
    return ['ENOSPC', 'EROFS', 'EDQUOT'].includes(syncFault.code)
      ? findings.skipBecause('speed', syncFault.code === 'EROFS' ? 'mount' : 'room')
      : findings.fail('speed', `writing to ${dataDir} fails: ${syncFault.words}`, 'look at `dmesg`; the disk may be dying')
  }
  const words = `fsync takes ${sync.p50Ms} ms, 1 in 100 ${sync.p99Ms} ms (${sync.times} tried)`
  if (sync.p99Ms > USELESS_P99_MS)
    findings.warn(
      'speed',
      `${words}: devices wait that long for their acknowledgement`,
      'the card is worn out or something else writes a lot: `iotop -o`; an SSD helps',
    )
  else if (sync.p99Ms > SLOW_P99_MS)
    findings.warn(
      'speed',
      `${words}: slow, though it works`,
      'see what else writes (`iotop -o`); cards for industrial use and SSDs are quicker',
    )
  else findings.ok('speed', words)
}

const DAY_SECONDS = 86_400
/** A shorter time says nothing of a day. */
const TELLING_SECONDS = 600
/** What cheap flash of that size survives: about 500 times its size (TLC, without over-provisioning). */
const REWRITES = 500

function judgeWear({ disk, uptimeSeconds, daemon }: DiskFacts, findings: Findings): void {
  const { writtenBytes, totalBytes } = disk
  if (writtenBytes === undefined) return findings.skip('wear', 'this disk does not count what is written')
  if (uptimeSeconds < TELLING_SECONDS) return findings.skip('wear', 'the box has not run for long enough to tell')
  const perDay = (writtenBytes / uptimeSeconds) * DAY_SECONDS
  const own =
    daemon !== undefined && daemon.seconds >= TELLING_SECONDS
      ? `, ${bytes((daemon.writtenBytes / daemon.seconds) * DAY_SECONDS)} of it by the gateway`
      : ''
  const words = `${bytes(perDay)} a day are written${own}`
  const years = (totalBytes * REWRITES) / Math.max(1, perDay) / 365
  const lasts = `at that rate it lasts ${years > 20 ? 'more than 20' : years < 2 ? years.toFixed(1) : Math.round(years)} years (an estimate: ${REWRITES} times its size)`
  if (disk.kind === 'spinning disk' || disk.kind === 'virtual disk') findings.ok('wear', words)
  else if (years < 2)
    findings.warn('wear', `${words}; ${lasts}`, 'see what writes so much: `iotop -oa`; a larger buffer.commit.maxDelay writes less')
  else findings.ok('wear', `${words}; ${lasts}`)
}

function judgeLife({ disk }: DiskFacts, findings: Findings): void {
  const { life, kind } = disk
  if (life === undefined) {
    const how = kind === 'NVMe' ? '; `nvme smart-log` as root does' : kind === 'SSD' ? '; `smartctl -a` as root does' : ''
    return findings.skip('life left', `this disk does not tell here${how}`)
  }
  const used =
    life.usedPercentMost > 100 ? 'more than its rated life is used up' : `up to ${life.usedPercentMost} % of its rated life is used up`
  if ((life.preEndOfLife ?? 1) >= 3 || life.usedPercentMost > 100)
    findings.fail('life left', `${used}: it may fail any day`, 'replace the card or disk now; `edgectl backup` first')
  else if ((life.preEndOfLife ?? 1) === 2 || life.usedPercentMost >= 80) findings.warn('life left', used, 'plan its replacement')
  else findings.ok('life left', used)
}
