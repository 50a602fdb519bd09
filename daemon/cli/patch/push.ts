import type { Command } from 'commander'
import { type Envelope, envelopeText, seal } from '../../../adapters/signing/dsse.ts'
import { GatewayError } from '../../errors.ts'
import { keys, PATCH_TYPE } from '../../patch/records.ts'
import type { Patch } from '../../patch/document.ts'
import { auditOf, type FleetLink, withFleet } from '../fleet-link.ts'
import { show } from '../figures.ts'
import { type PatchFile, readPatchFile } from './document.ts'
import { assertBelieved, signingKey } from './signer.ts'
import { only, write } from './written.ts'

interface PushOptions {
  readonly key?: string
}

export function pushCommand(program: Command, patch: Command): void {
  patch
    .command('push')
    .description('put a signed patch into etcd: its rollout begins as soon as it may')
    .argument('<file>', 'as `patch sign` wrote it; or the patch in YAML or JSON, with --key')
    .option('--key <file>', 'signs a patch that is not signed yet; otherwise the signature must be by this key')
    .addHelpText('after', '\nExample:\n  edgectl patch push raise-limits.dsse\n  edgectl patch push raise-limits.yaml --key ops-2026.key')
    .action((file: string, options: PushOptions) => withFleet(program, (link) => push(program, link, file, options)))
}

async function push(program: Command, link: FleetLink, file: string, { key: keyFile }: PushOptions): Promise<void> {
  const read = readPatchFile(file)
  const key = keyFile === undefined ? undefined : signingKey(keyFile)
  const envelope = read.envelope ?? sealed(file, read, key)
  const verified = assertBelieved(link, read.patch, envelope, key)
  refuse(link, read.patch)
  const pushed = await create(link, read.patch.id, envelope)
  const { id } = read.patch
  const text = pushed ? `${id} is pushed; \`edgectl patch status ${id} --watch\` shows its rollout` : `${id} was already pushed`
  const note = verified ? '' : '\nnote: patches.trustedKeys is empty here, so that nobody looked whether the gateways trust its key'
  show(program, { schema: 1, id, pushed, alreadyPushed: !pushed, verified }, text + note)
}

function sealed(file: string, { payload }: PatchFile, key: ReturnType<typeof signingKey> | undefined): Envelope {
  if (key !== undefined) return seal(PATCH_TYPE, payload, key)
  throw new GatewayError('rejected', `${file} is not signed, and gateways take signed patches only`, {
    remedy: `edgectl patch push ${file} --key FILE (signs it as well)`,
  })
}

/** What every gateway would refuse, or nobody could carry out, is better told here. */
function refuse({ settings: { gateway }, clock }: FleetLink, { id, fleet, expires }: Patch): void {
  if (gateway.fleet !== undefined && gateway.fleet !== fleet)
    throw new GatewayError('rejected', `${id} is for the fleet ${fleet}, and this configuration belongs to ${gateway.fleet}`)
  if (clock.wallMs() >= expires)
    throw new GatewayError('rejected', `${id} expired at ${new Date(expires).toISOString()}`, {
      remedy: 'write a later expires, and sign it again',
    })
}

/** False when these very bytes stand there already. */
async function create(link: FleetLink, id: string, envelope: Envelope): Promise<boolean> {
  const key = keys.spec(id)
  const value = Buffer.from(envelopeText(envelope))
  const audit = auditOf('push', { patch: id })
  if (await write(link, { compare: [{ key, create: 0 }], then: [{ put: key, value }], audit })) return true
  const { answers } = await link.etcd.transact({ compare: [], then: [{ get: key }] })
  const there = only(answers[0]?.entries)
  if (there !== undefined && value.equals(there.value)) return false
  throw new GatewayError('rejected', `another patch was pushed as ${id}; an id is never used again, and a pushed patch never changes`, {
    remedy: 'write another id and a higher sequence, and sign it again',
  })
}
