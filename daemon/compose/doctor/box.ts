/** The sections on the box itself. */
import { statSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { lookAtDisk, timeSync, writtenBy } from '../../../adapters/host/probe-disk.ts'
import { lookAtCertificate, lookAtFile } from '../../../adapters/host/probe-files.ts'
import { kernelTrouble, lookAtMachine } from '../../../adapters/host/probe-machine.ts'
import { lookAtUnit, systemdVersion } from '../../../adapters/host/probe-unit.ts'
import type { ClientTlsSettings, Settings } from '../../../config/settings.ts'
import { sqliteVersion } from '../../../store/readonly.ts'
import { judgeFiles, judgeMachine, judgeService, judgeVersions, type SecretFile } from '../../doctor/box.ts'
import { Findings, type Check } from '../../doctor/check.ts'
import { judgeDisk, type DiskFacts } from '../../doctor/disk.ts'
import type { SyncFound } from '../../doctor/facts.ts'
import { judgeCertificate } from '../../doctor/peers.ts'
import { messageOf } from '../../errors.ts'
import { VERSION } from '../../version.ts'
import type { DaemonLook } from './daemon.ts'
import type { Ways } from './ways.ts'

export async function versionChecks(ways: Ways, daemon: DaemonLook | undefined): Promise<readonly Check[]> {
  const systemd = await systemdVersion(ways.timeoutMs)
  return judgeVersions({
    own: VERSION,
    daemon: daemon?.facts.version,
    node: process.version,
    sqlite: sqliteVersion(),
    systemd,
    kernel: release(),
  })
}

export function accessChecks(settings: Settings, configFile: string, ways: Ways, daemon: DaemonLook): readonly Check[] {
  const findings = new Findings('access')
  const { pid } = daemon.facts
  const daemonUid = pid === undefined ? undefined : statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid
  const named = [{ key: 'configuration', found: lookAtFile(configFile), secret: false }, ...secretFiles(settings)]
  judgeFiles(named, lookAtFile(settings.gateway.dataDir), daemonUid, findings)
  for (const [key, tls] of clientCertificates(settings)) {
    if (tls.cert !== undefined) judgeCertificate(lookAtCertificate(tls.cert, tls.key), `${key} certificate`, ways.clock.wallMs(), findings)
    if (tls.ca !== undefined) judgeCertificate(lookAtCertificate(tls.ca), `${key} authority`, ways.clock.wallMs(), findings)
  }
  return findings.checks
}

function clientCertificates({ kafka, etcd }: Settings): readonly (readonly [string, ClientTlsSettings])[] {
  return [...(kafka?.tls ? [['kafka.tls', kafka.tls] as const] : []), ...(etcd?.tls ? [['etcd.tls', etcd.tls] as const] : [])]
}

/** Every file of the configuration whose content nobody else may see. */
export function secretFiles({ mqtt, kafka, etcd, page }: Settings): readonly SecretFile[] {
  const sasl = kafka?.sasl
  const files: (readonly [string, string | undefined])[] = [
    ...Object.entries(mqtt.listen).flatMap(([name, { tls, auth }]) => [
      [`mqtt.listen.${name}.tls.key`, tls?.key] as const,
      [`mqtt.listen.${name}.auth.passwordFile`, auth.kind === 'none' ? undefined : auth.passwordFile] as const,
    ]),
    ...Object.entries(mqtt.connect).flatMap(([name, { tls, passwordFile }]) => [
      [`mqtt.connect.${name}.tls.key`, tls?.key] as const,
      [`mqtt.connect.${name}.passwordFile`, passwordFile] as const,
    ]),
    ['kafka.tls.key', kafka?.tls?.key],
    ['kafka.sasl.passwordFile', sasl !== undefined && 'passwordFile' in sasl ? sasl.passwordFile : undefined],
    ['kafka.sasl.tokenFile', sasl !== undefined && 'token' in sasl && 'file' in sasl.token ? sasl.token.file : undefined],
    ['kafka.sasl.clientSecretFile', sasl !== undefined && 'token' in sasl && 'url' in sasl.token ? sasl.token.clientSecretFile : undefined],
    ['etcd.tls.key', etcd?.tls?.key],
    ['etcd.passwordFile', etcd?.passwordFile],
    ['page.passwordFile', page.passwordFile],
  ]
  return files.flatMap(([key, path]) => (path === undefined ? [] : [{ key, found: lookAtFile(path), secret: true }]))
}

export async function serviceChecks(ways: Ways, unit: string, daemon: DaemonLook): Promise<readonly Check[]> {
  const findings = new Findings('service')
  judgeService(daemon.facts, await lookAtUnit(unit, ways.timeoutMs), findings)
  return findings.checks
}

export async function diskChecks(settings: Settings, daemon: DaemonLook): Promise<readonly Check[]> {
  const { gateway, buffer } = settings
  const { dataDir } = gateway
  const disk = lookAtDisk(dataDir)
  const { pid, uptimeSeconds } = daemon.facts
  const written = pid === undefined ? undefined : writtenBy(pid)
  const facts: DiskFacts = {
    dataDir,
    disk,
    ...(await speedOf(dataDir)),
    minFreeBytes: buffer.minFreeBytes,
    maxBytes: buffer.maxBytes,
    usedBytes: bytesOf(join(dataDir, 'outbox.db')) + bytesOf(join(dataDir, 'outbox.db-wal')),
    uptimeSeconds: lookAtMachine().uptimeSeconds,
    ...(written !== undefined && uptimeSeconds !== undefined && { daemon: { writtenBytes: written, seconds: uptimeSeconds } }),
  }
  return judgeDisk(facts)
}

async function speedOf(
  folder: string,
): Promise<{ readonly sync?: SyncFound; readonly syncFault?: { readonly code: string; readonly words: string } }> {
  try {
    return { sync: await timeSync(folder) }
  } catch (error) {
    return { syncFault: { code: (error as NodeJS.ErrnoException).code ?? '', words: messageOf(error) } }
  }
}

function bytesOf(path: string): number {
  try {
    return statSync(path).size
  } catch {
    // Not there before the first start, or not ours to look at.
    return 0
  }
}

export async function machineChecks(ways: Ways): Promise<readonly Check[]> {
  return judgeMachine(lookAtMachine(), await kernelTrouble(ways.timeoutMs))
}
