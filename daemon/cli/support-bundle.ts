/** `edgectl support-bundle`: all that somebody far away needs, and nothing that is secret. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { bundle } from '../../adapters/host/bundle.ts'
import { journalEnd } from '../../adapters/host/probe-unit.ts'
import type { Json } from '../../config/merge.ts'
import { redact } from '../../config/redact.ts'
import type { Settings } from '../../config/settings.ts'
import { redactor, secretsIn } from '../doctor/secrets.ts'
import { GatewayError, messageOf } from '../errors.ts'
import { VERSION } from '../version.ts'
import { load, type GlobalOptions } from './ask.ts'
import { listing, systemFacts } from './bundle-facts.ts'
import { Questions } from './bundle-questions.ts'
import { doctorDocument } from './doctor.ts'
import { show } from './figures.ts'
import { printable, size } from './text.ts'

interface BundleOptions {
  readonly out?: string
  readonly show?: boolean
}

/** Before it is packed, so the file is always smaller. */
const TOTAL_MAX_BYTES = 5_000_000
const ENTRY_MAX_BYTES = 600_000
const JOURNAL_LINES = 2_000
const JOURNAL_MS = 10_000
const UNIT = 'edge-gateway.service'

/** File names, what the control socket calls them, and why each helps. */
const DOCUMENTS = [
  ['status.json', '/status', 'verdict and figures'],
  ['why-kafka.json', '/why/kafka', 'what is done with Kafka'],
  ['buffer.json', '/buffer', 'lanes and epochs'],
  ['ledger.json', '/ledger?devices=200', 'the account of every message'],
  ['config.json', '/config', 'every value in force and where it was written, secrets hidden'],
  ['patches.json', '/patches', 'patches on this box'],
  ['history.json', '/history?limit=200', 'what ran here'],
  ['dead-letters.json', '/dead-letters?limit=200', 'records that Kafka refused, without payloads'],
  ['devices.json', '/devices?limit=1000', 'devices and when they were last heard'],
] as const

export function bundleCommand(program: Command): void {
  program
    .command('support-bundle')
    .description('pack what somebody far away needs to help, without secrets and payloads, into one file below 5 MB')
    .option('--out <file>', 'where to write it; - is stdout; default: this folder, else the one for temporary files')
    .option('--show', 'only list what would be in it')
    .addHelpText('after', '\nExamples:\n  edgectl support-bundle\n  edgectl support-bundle --out - | ssh me@office "cat > box.tar.gz"')
    .action((options: BundleOptions) => supportBundle(program, options))
}

async function supportBundle(program: Command, { out, show: only }: BundleOptions): Promise<void> {
  if (out === '-' && process.stdout.isTTY)
    throw new GatewayError('rejected', 'this is no text for a terminal', {
      remedy: 'name a file with --out, or send stdout to another program',
    })
  const madeMs = Date.now()
  const contents = await collect(program.opts<GlobalOptions>().config)
  const manifest = manifestOf(contents, madeMs)
  if (contents.some(({ note }) => note?.includes('no permission') === true))
    console.error('note: without the right to ask the daemon much is left out; run it with sudo')
  const entries = contents.flatMap(({ name, text }) => (text === undefined ? [] : [{ name, text }]))
  if (only === true) return show(program, documentOf(contents), manifest)
  const stamp = new Date(madeMs).toISOString().slice(0, 19).replaceAll(/[:-]/g, '')
  const folder = `edge-gateway-support-${stamp}`
  const packed = await bundle(folder, [{ name: 'MANIFEST', text: manifest }, ...entries], madeMs)
  if (out === '-') return void process.stdout.write(packed)
  const file = write(
    packed,
    out === undefined
      ? [resolve(`${folder}.tar.gz`), join(tmpdir(), `${folder}.tar.gz`), join('/run', `${folder}.tar.gz`)]
      : [resolve(out)],
  )
  show(
    program,
    { ...documentOf(contents), file, bytes: packed.length },
    `${printable(file)} (${size(packed.length)}): \`edgectl support-bundle --show\` lists what is in it`,
  )
}

/** The first place that takes it. */
function write(packed: Buffer, places: readonly string[]): string {
  let fault: unknown
  for (const place of places) {
    try {
      writeFileSync(place, packed, { mode: 0o600, flag: 'wx' })
      return place
    } catch (error) {
      fault = error
      // A full disk leaves a part; a file that was there before is somebody else's.
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') rmSync(place, { force: true })
    }
  }
  throw new GatewayError('rejected', `the bundle could not be written: ${messageOf(fault)}`, {
    remedy: 'name another file: --out /media/usb/box.tar.gz; or --out - to send it elsewhere',
    cause: fault,
  })
}

interface Content {
  readonly name: string
  readonly about: string
  readonly text?: string
  /** Why it was left out, or cut. */
  readonly note?: string
}

async function collect(configFile: string): Promise<readonly Content[]> {
  const settings = settingsOf(configFile)
  const clean = redactor('fault' in settings ? [] : await secretsOf(settings))
  // Side by side, since each may wait for a daemon that does not answer.
  const contents = (await Promise.all([documents(configFile, settings), facts(configFile, settings)])).flat()
  let left = TOTAL_MAX_BYTES
  return contents.map((content) => {
    const { text, note } = content
    const noted = note === undefined ? {} : { note: clean(note) }
    if (text === undefined) return { ...content, ...noted }
    const most = Math.min(ENTRY_MAX_BYTES, left)
    const cleaned = Buffer.from(clean(text))
    // Of a journal the end matters, of all else the beginning.
    const kept = content.name === 'journal.txt' ? cleaned.subarray(-most) : cleaned.subarray(0, most)
    left -= kept.length
    return {
      ...content,
      text: kept.toString('utf8'),
      ...noted,
      ...(kept.length < cleaned.length && { note: `cut to ${kept.length} of ${cleaned.length} bytes` }),
    }
  })
}

function settingsOf(configFile: string): Settings | { readonly fault: string } {
  try {
    return load({ config: configFile }).settings
  } catch (error) {
    return { fault: messageOf(error) }
  }
}

/** So that none is repeated by a log line or a document. One that can't be read by us can't be put in by us, either. */
async function secretsOf(settings: Settings): Promise<readonly string[]> {
  const { secretFiles } = await import('../compose/doctor/box.ts')
  return secretFiles(settings).flatMap(({ found }) => {
    try {
      return secretsIn(readFileSync(found.path, 'utf8'))
    } catch {
      // Missing, or not ours to read.
      return []
    }
  })
}

async function documents(configFile: string, settings: Settings | { readonly fault: string }): Promise<readonly Content[]> {
  if ('fault' in settings)
    return DOCUMENTS.map(([name, , about]) => ({ name, about, note: `left out: the configuration is not valid: ${settings.fault}` }))
  const questions = new Questions(configFile, settings)
  const contents: Content[] = []
  try {
    for (const [name, path, about] of DOCUMENTS) {
      contents.push(await attempt(name, about, async () => JSON.stringify(redact((await questions.ask(path)) as Json), undefined, 1)))
    }
  } finally {
    await questions.close()
  }
  return contents
}

async function facts(configFile: string, settings: Settings | { readonly fault: string }): Promise<readonly Content[]> {
  const journal = await journalEnd(UNIT, JOURNAL_LINES, JOURNAL_MS)
  return [
    await attempt('doctor.json', 'what `edgectl doctor` found', async () => {
      const { examineAll } = await import('../compose/doctor/examine.ts')
      return JSON.stringify(doctorDocument(await examineAll({ configFile })), undefined, 1)
    }),
    await attempt('files.txt', 'sizes of the files in the data folder', () => {
      if ('fault' in settings) throw new Error('the configuration is not valid, so the folder is not known')
      return listing(settings.gateway.dataDir).split('\n').map(printable).join('\n')
    }),
    await attempt('system.txt', 'system, memory, mounts and disks', systemFacts),
    await attempt(
      'versions.txt',
      'versions',
      () =>
        `edge-gateway ${VERSION}\nnode ${process.version} ${process.arch}\n${Object.entries(process.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join('\n')}\n`,
    ),
    'text' in journal
      ? { name: 'journal.txt', about: `the last ${JOURNAL_LINES} lines of the unit's journal`, text: journal.text }
      : { name: 'journal.txt', about: "the unit's journal", note: `left out: ${journal.missing}` },
  ]
}

async function attempt(name: string, about: string, make: () => string | Promise<string>): Promise<Content> {
  try {
    return { name, about, text: await make() }
  } catch (error) {
    return { name, about, note: `left out: ${messageOf(error)}` }
  }
}

const NEVER = 'Never in it: payloads, passwords, keys, tokens, files of secrets, the buffer itself.'

function manifestOf(contents: readonly Content[], madeMs: number): string {
  const rows = contents.map(({ name, about, text, note }) => {
    const bytes = text === undefined ? '-' : String(Buffer.byteLength(text))
    return `${bytes.padStart(9)}  ${name.padEnd(18)} ${about}${note === undefined ? '' : `; ${printable(note)}`}`
  })
  return [`Support bundle of an edge gateway, ${VERSION}, made ${new Date(madeMs).toISOString()}`, NEVER, '', ...rows, ''].join('\n')
}

function documentOf(contents: readonly Content[]): { readonly schema: 1; readonly contents: readonly object[] } {
  const listed = contents.map(({ name, about, text, note }) => ({
    name,
    about,
    bytes: text === undefined ? 0 : Buffer.byteLength(text),
    ...(note !== undefined && { note }),
  }))
  return { schema: 1, contents: listed }
}
