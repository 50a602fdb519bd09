/**
 * What is inside, as CycloneDX 1.5. Made from package-lock.json rather than by `npm sbom`, whose answer holds a random number,
 * the time, the folder's name and npm's version, and knows nothing of the runtime.
 */
import { createHash } from 'node:crypto'
import type { Dependency } from './dependencies.ts'

export interface Contents {
  readonly version: string
  readonly architecture: string
  readonly epochSeconds: number
  readonly dependencies: readonly Dependency[]
}

export function sbomText({ version, architecture, epochSeconds, dependencies }: Contents): string {
  const components = dependencies.map(component)
  const root = `pkg:deb/edge-gateway@${version}?arch=${architecture}`
  const digest = createHash('sha256')
    .update(JSON.stringify([root, components]))
    .digest('hex')
  const bom = {
    $schema: 'http://cyclonedx.org/schema/bom-1.5.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.5',
    serialNumber: `urn:uuid:${uuid(digest)}`,
    version: 1,
    metadata: {
      timestamp: new Date(epochSeconds * 1000).toISOString(),
      component: {
        'bom-ref': root,
        type: 'application',
        name: 'edge-gateway',
        version,
        purl: root,
        licenses: [{ license: { id: 'Apache-2.0' } }],
      },
    },
    components,
    dependencies: [{ ref: root, dependsOn: components.map((entry) => entry['bom-ref']) }],
  }
  return `${JSON.stringify(bom, null, 2)}\n`
}

function component({ name, version, integrity, license, path }: Dependency) {
  const [algorithm = '', value = ''] = integrity.split(/-(.*)/)
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`
  return {
    'bom-ref': `${purl}#${path}`,
    type: name.startsWith('node-linux-') ? 'platform' : 'library',
    name,
    version,
    purl,
    hashes: [{ alg: algorithm.toUpperCase().replace('SHA', 'SHA-'), content: Buffer.from(value, 'base64').toString('hex') }],
    licenses: /^[\w.+-]+$/.test(license) ? [{ license: { id: license } }] : [{ expression: license }],
  }
}

/** The same contents have the same number (RFC 9562, version 8). */
function uuid(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-8${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
