import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { prepareBroker } from './kafka-broker.ts'
import { kafkaCacheDir, renameOnce } from './kafka-jars.ts'
import { startService } from './service.ts'

/**
 * Java options that let a broker start from an archive of loaded classes: half the time, half the work.
 * The archive is made once for each Kafka version, by a broker that starts and stops. A Java of another
 * version ignores it. Without one, a broker starts as ever.
 */
export async function archiveOptions(version: string): Promise<string[]> {
  const archive = join(kafkaCacheDir(version), 'classes.jsa')
  if (!existsSync(archive)) await makeArchive(version, archive)
  return existsSync(archive) ? [`-XX:SharedArchiveFile=${archive}`] : []
}

async function makeArchive(version: string, archive: string): Promise<void> {
  process.stderr.write(`preparing Apache Kafka ${version} for quick starts (once)\n`)
  const dir = mkdtempSync(join(kafkaCacheDir(version), 'classes-'))
  const fresh = join(dir, 'classes.jsa')
  try {
    const broker = await prepareBroker({ dir }, version, [`-XX:ArchiveClassesAtExit=${fresh}`])
    const service = await startService(broker.spec)
    await service.stop()
    if (existsSync(fresh)) renameOnce(fresh, archive)
    else process.stderr.write(`Java made no class archive; Kafka will start slowly\n`)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
