import { writeFileSync } from 'node:fs'
import type { Command } from 'commander'
import { addSignature, envelopeText, seal } from '../../../adapters/signing/dsse.ts'
import { readPrivateKey } from '../../../adapters/signing/files.ts'
import { GatewayError, messageOf } from '../../errors.ts'
import { PATCH_TYPE } from '../../patch/records.ts'
import type { GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { readPatchFile } from './document.ts'

export function signCommand(program: Command, patch: Command): void {
  patch
    .command('sign')
    .description('sign a patch; a file that is signed already gets one signature more')
    .argument('<file>', 'the patch in YAML or JSON, or as `patch sign` wrote it')
    .requiredOption('--key <file>', 'the private key, as `patch keygen` made it')
    .option('--out <file>', 'where the envelope goes; default: standard output')
    .addHelpText('after', '\nExample:\n  edgectl patch sign raise-limits.yaml --key ops-2026.key --out raise-limits.dsse')
    .action((file: string, options: { readonly key: string; readonly out?: string }) => sign(program, file, options))
}

function sign(program: Command, file: string, { key: keyFile, out }: { readonly key: string; readonly out?: string }): void {
  const key = readPrivateKey(keyFile)
  if (key === undefined)
    throw new GatewayError('rejected', `there is no key ${keyFile}`, { remedy: `edgectl patch keygen --out ${keyFile}` })
  const { patch, payload, envelope } = readPatchFile(file)
  const signed = envelope === undefined ? seal(PATCH_TYPE, payload, key) : addSignature(envelope, key)
  const text = envelopeText(signed)
  if (out !== undefined) write(out, `${text}\n`)
  // The envelope itself is JSON already: it goes to standard output as it is, so that it can be piped.
  else if (program.opts<GlobalOptions>().json !== true) return console.log(text)
  const keyids = signed.signatures.map(({ keyid }) => keyid ?? '')
  const document = { schema: 1, id: patch.id, keyids, ...(out === undefined ? { envelope: JSON.parse(text) as unknown } : { file: out }) }
  show(program, document, `${patch.id} is signed by ${keyids.join(', ')} in ${out ?? 'the envelope'}`)
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (error) {
    throw new GatewayError('rejected', `${path} can't be written: ${messageOf(error)}`, { cause: error })
  }
}
