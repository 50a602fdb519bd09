import { existsSync, readdirSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Command } from 'commander'
import { ControlClient, DaemonUnreachable } from '../../../adapters/control/client.ts'
import type { Settings } from '../../../config/settings.ts'
import { copyStopped } from '../../../store/stopped-copy.ts'
import type { BackupState } from '../../compose/backups.ts'
import { GatewayError } from '../../errors.ts'
import { VERSION } from '../../version.ts'
import { load, type GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { printable, size } from '../text.ts'
import { BackupFolder, checkBackup, configFiles, type Manifest } from './backup-files.ts'
import { giveBack } from './export-source.ts'

const DATABASES = ['state.db', 'outbox.db']
const KEY = 'identity.key'
const LOOK_MS = 100

export function backupCommand(program: Command): void {
  const group = program
    .command('backup')
    .description('copy the buffer, the memory of patches and the configuration, while the daemon runs or not')
    .option('--out <folder>', 'where to; in a folder that is there, a new one is made, named after the box and the time')
    .option('--with-key', "also the box's own key: whoever has it can pass for this box")
    .addHelpText('after', HELP)
    .action((options: { out?: string; withKey?: boolean }) => run(program, options))
  group
    .command('check <folder>')
    .description('is a backup whole?')
    .addHelpText('after', '\nExample:\n  edgectl backup check /media/stick/backup')
    .action(async (folder: string) => {
      const manifest = await checkBackup(folder)
      show(program, { schema: 1, folder, manifest }, `${describe(manifest)}: whole`)
    })
}

const HELP = `
Not in it: the box's key unless you ask for it (a copy on another board is a second box with the same name, and both
would wait for you), passwords and certificates (they are files of their own), imports that are not delivered yet.

Restore, on a box that has the package:
  systemctl stop edge-gateway
  edgectl backup check FOLDER
  mv /var/lib/edge-gateway /var/lib/edge-gateway.old; install -d -o edge-gateway -g edge-gateway -m 750 /var/lib/edge-gateway
  install -o edge-gateway -g edge-gateway -m 640 FOLDER/*.db /var/lib/edge-gateway/
  cp -r FOLDER/config/. /etc/edge-gateway/; chgrp -R edge-gateway /etc/edge-gateway
  edgectl doctor --only access        names the passwords and certificates to put back
  systemctl start edge-gateway
What Kafka has already is not sent again: the box asks Kafka first. What came after the backup is not in it.

Example:
  edgectl backup --out /media/stick`

async function run(program: Command, { out, withKey }: { out?: string; withKey?: boolean }): Promise<void> {
  if (out === undefined) throw new GatewayError('rejected', 'say where to', { remedy: 'edgectl backup --out /media/stick' })
  const options = program.opts<GlobalOptions>()
  const { settings } = load(options)
  const at = new Date().toISOString()
  const folder = new BackupFolder(placeOf(out, settings, at))
  const building = await folder.begin()
  try {
    await takeDatabases(settings, folder, building)
    const { dataDir } = settings.gateway
    for (const name of readdirSync(dataDir).filter((one) => /^mqtt-.*\.json$/.test(one))) await folder.copy(join(dataDir, name), name)
    const hasKey = withKey === true && existsSync(join(dataDir, KEY))
    if (hasKey) await folder.copy(join(dataDir, KEY), KEY)
    for (const file of await configFiles(options.config)) await folder.copy(file, configName(file))
    const manifest = await folder.finish({ gateway: settings.gateway.id, version: VERSION, at, withKey: hasKey })
    await checkBackup(folder.path)
    show(
      program,
      { schema: 1, folder: folder.path, manifest },
      `${describe(manifest)}\nin ${printable(folder.path)}, checked${importsLeft(dataDir)}`,
    )
  } catch (error) {
    await folder.discard()
    throw error
  }
}

/** From the daemon, which makes copies that are whole; or, when it is down, straight from its files. */
async function takeDatabases(settings: Settings, folder: BackupFolder, building: string): Promise<void> {
  const client = new ControlClient(settings.control.socket)
  try {
    const state = await untilReady(client, (await client.post('/backups')) as BackupState)
    try {
      for (const name of DATABASES) await folder.copy(join(state.directory, name), name)
    } finally {
      await client.post(`/backups/${state.id}/end`)
    }
  } catch (error) {
    if (!(error instanceof DaemonUnreachable) || error.why === 'silent') throw error
    await copyStopped(settings.gateway.dataDir, building)
    giveBack(settings.gateway.dataDir)
    for (const name of DATABASES) if (existsSync(join(building, name))) await folder.note(name)
  } finally {
    await client.close()
  }
}

async function untilReady(client: ControlClient, begun: BackupState): Promise<BackupState> {
  for (let state = begun; ; state = (await client.get(`/backups/${begun.id}`)) as BackupState) {
    if (state.state === 'ready') return state
    if (state.state === 'failed')
      throw new GatewayError('rejected', state.error ?? 'the copy failed', state.remedy === undefined ? {} : { remedy: state.remedy })
    await sleep(LOOK_MS)
  }
}

function placeOf(out: string, { gateway }: Settings, at: string): string {
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory() !== true) return out
  return join(out, `${gateway.id}.${at.replaceAll(/[-:]|\.\d+/g, '')}.backup`)
}

function configName(file: string): string {
  const inFolder = /\/config\.d\/[^/]+$/.test(file)
  return join('config', inFolder ? join('config.d', basename(file)) : basename(file))
}

function describe({ gateway, at, files, withKey }: Manifest): string {
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0)
  return `backup of ${printable(gateway)} of ${printable(at)}: ${files.length} files, ${size(bytes)}${withKey ? ', with its key' : ''}`
}

function importsLeft(dataDir: string): string {
  const folder = join(dataDir, 'imported')
  const count = existsSync(folder) ? readdirSync(folder).filter((name) => !name.startsWith('.')).length : 0
  return count === 0 ? '' : `\nNot in it: ${count} imports of other boxes that are not delivered yet; keep their files.`
}
