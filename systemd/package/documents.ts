/** Manual pages, completion, licences, the list of contents: all made from what the program itself knows. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { edgectlProgram } from '../../daemon/cli/edgectl.ts'
import { gatewayProgram } from '../../daemon/main.ts'
import { bashCompletion } from './completion.ts'
import { configManual } from './man-config.ts'
import { manualPage } from './man.ts'
import { copyrightText } from './notices.ts'
import type { Notice } from './program.ts'
import { sbomText } from './sbom.ts'
import type { Tree } from './tree.ts'

const DOC = 'usr/share/doc/edge-gateway'

export interface Release {
  readonly version: string
  readonly epochSeconds: number
}

export function addManuals(tree: Tree, root: string, { version, epochSeconds }: Release): void {
  const day = new Date(epochSeconds * 1000).toISOString().slice(0, 10)
  const programs = [
    { program: gatewayProgram(() => undefined), section: 8, seeAlso: ['edgectl(1)', 'edge-gateway.yaml(5)'] },
    { program: edgectlProgram(), section: 1, seeAlso: ['edge-gateway(8)', 'edge-gateway.yaml(5)'] },
  ] as const
  for (const { program, section, seeAlso } of programs) {
    tree.writeZipped(`usr/share/man/man${section}/${program.name()}.${section}.gz`, manualPage(program, { section, version, day, seeAlso }))
    tree.write(`usr/share/bash-completion/completions/${program.name()}`, bashCompletion(program))
  }
  const schema = readFileSync(join(root, 'config/edge-gateway.schema.json'), 'utf8')
  tree.writeZipped('usr/share/man/man5/edge-gateway.yaml.5.gz', configManual(schema, day, version))
}

export function addDocuments(tree: Tree, root: string, release: Release, architecture: string, notices: readonly Notice[]): void {
  const { version, epochSeconds } = release
  const dependencies = notices.map(({ dependency }) => dependency)
  tree.write(`${DOC}/copyright`, copyrightText(notices))
  tree.writeZipped(`${DOC}/changelog.gz`, changelog(release))
  tree.writeZipped(`${DOC}/sbom.cdx.json.gz`, sbomText({ version, architecture, epochSeconds, dependencies }))
  for (const name of ['README.md', 'CHANGELOG.md', 'SECURITY.md'])
    if (existsSync(join(root, name))) tree.writeZipped(`${DOC}/${name}.gz`, readFileSync(join(root, name)))
  for (const name of ['example.yaml', 'example-patch.yaml', 'edge-gateway.schema.json', 'patch.schema.json'])
    tree.copy(`${DOC}/${name}`, join(root, 'config', name))
  for (const [from, to] of [
    ['config/monitoring', 'monitoring'],
    ['systemd/ansible', 'ansible'],
  ] as const)
    if (existsSync(join(root, from)))
      for (const name of readdirSync(join(root, from))) tree.copy(`${DOC}/examples/${to}/${name}`, join(root, from, name))
  tree.copy('usr/share/lintian/overrides/edge-gateway', join(root, 'systemd/package/lintian-overrides'))
}

/** Debian's form; what changed is told to users in CHANGELOG.md.gz beside it. */
function changelog({ version, epochSeconds }: Release): string {
  const day = new Date(epochSeconds * 1000).toUTCString().replace('GMT', '+0000')
  return `edge-gateway (${version}) stable; urgency=medium

  * See CHANGELOG.md.gz beside this file.

 -- Edge gateway maintainers <edge-gateway@localhost>  ${day}
`
}
