import { basename } from 'node:path'
import type { Command } from 'commander'
import { createPrivateKeyFile } from '../../../adapters/signing/files.ts'
import { keyIdOf, publicTextOf } from '../../../adapters/signing/keys.ts'
import { show } from '../figures.ts'

export function keygenCommand(program: Command, patch: Command): void {
  patch
    .command('keygen')
    .description('make a key that signs patches (ed25519)')
    .option('--out <file>', 'where the private key goes, mode 0600; never over a file', 'patch.key')
    .addHelpText('after', '\nExample:\n  edgectl patch keygen --out ops-2026.key')
    .action(({ out }: { readonly out: string }) => {
      const publicKey = publicTextOf(createPrivateKeyFile(out))
      const name = basename(out)
        .replace(/\.[^.]*$/, '')
        .replaceAll(/[^A-Za-z0-9_-]/g, '-')
      const trust = `patches: { trustedKeys: { ${name}: { ed25519: "${publicKey}", kinds: [config, files, device], sites: all } } }`
      const text = `private key  ${out} (keep it off the boxes)\npublic key   ${publicKey}\n\nThe boxes trust it with this in their configuration:\n  ${trust}`
      show(program, { schema: 1, file: out, publicKey, keyid: keyIdOf(publicKey) }, text)
    })
}
