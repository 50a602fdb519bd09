import type { Finding } from '../issues.ts'
import type { Path } from '../problem.ts'
import type { Config } from '../schema.ts'
import { type HostPort, isLoopback } from '../schema/scalars.ts'
import { clientCertificate, schemeMatchesTls, usernameWithPassword } from './links.ts'
import { type Relation, relation, warning, wrong } from './relation.ts'

/** Rules of the box itself: its name, ports, sockets, patches. */
export const boxRelations: readonly Relation[] = [
  relation(['gateway'], gatewayId),
  relation(['mqtt', 'metrics', 'page'], ports),
  relation(['metrics', 'page'], openHttp),
  relation(['control'], controlSocket),
  relation(['etcd'], etcdLink),
  relation(['etcd', 'patches', 'gateway'], patching),
  relation(['patches', 'gateway'], roots),
]

function* gatewayId({ gateway }: Pick<Config, 'gateway'>): Iterable<Finding> {
  if (gateway.id === undefined)
    yield wrong(['gateway', 'id'], 'this box has neither a serial number nor /etc/machine-id to take a name from; write gateway: { id: … }')
}

function* ports({ mqtt, metrics, page }: Pick<Config, 'mqtt' | 'metrics' | 'page'>): Iterable<Finding> {
  const listeners: { readonly path: Path; readonly at: HostPort }[] = Object.entries(mqtt.listen ?? {}).map(([name, { url }]) => ({
    path: ['mqtt', 'listen', name, 'url'],
    at: url,
  }))
  if (metrics.listen !== undefined) listeners.push({ path: ['metrics', 'listen'], at: metrics.listen })
  if (page.listen !== undefined) listeners.push({ path: ['page', 'listen'], at: page.listen })
  for (const [index, { path, at }] of listeners.entries()) {
    const other = listeners.slice(0, index).find((earlier) => collide(earlier.at, at))
    if (other !== undefined) yield wrong(path, `port ${at.port} is already taken by ${other.path.join('.')}; write another port`)
  }
}

function collide(a: HostPort, b: HostPort): boolean {
  return a.port !== 0 && a.port === b.port && (a.host === b.host || isWildcard(a.host) || isWildcard(b.host))
}

function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

function* openHttp({ metrics, page }: Pick<Config, 'metrics' | 'page'>): Iterable<Finding> {
  if (page.listen !== undefined && page.passwordFile === undefined && !isLoopback(page.listen.host)) {
    yield wrong(
      ['page', 'listen'],
      'the page would be open to everyone who reaches this address; add passwordFile: /path, or write a loopback address',
    )
  }
  if (page.listen !== undefined && page.passwordFile !== undefined && page.tls === undefined && !isLoopback(page.listen.host))
    yield warning(['page', 'listen'], 'passwords for the page go over the network in clear; add tls: { cert: /path, key: /path }')
  if (metrics.listen !== undefined && !isLoopback(metrics.listen.host)) {
    yield warning(
      ['metrics', 'listen'],
      'metrics are open to everyone who reaches this address; write a loopback address, or keep it behind a firewall',
    )
  }
}

/** sun_path of unix(7) has 108 bytes with its end. */
function* controlSocket({ control }: Pick<Config, 'control'>): Iterable<Finding> {
  const bytes = Buffer.byteLength(control.socket ?? '')
  if (bytes > 107) yield wrong(['control', 'socket'], `${bytes} bytes, and Linux allows 107 for a socket's path; write a shorter one`)
}

function* etcdLink({ etcd }: Pick<Config, 'etcd'>): Iterable<Finding> {
  if (etcd === undefined) return
  yield* schemeMatchesTls(etcd.endpoints, etcd.tls, ['etcd', 'endpoints'], ['etcd'], 'http', 'https')
  yield* clientCertificate(etcd.tls, ['etcd'])
  yield* usernameWithPassword(etcd, ['etcd'])
  if (etcd.username !== undefined && etcd.passwordFile === undefined)
    yield wrong(['etcd', 'username'], 'a user name without a password; add passwordFile: /path')
  if (etcd.username !== undefined && etcd.endpoints.some(({ secure, host }) => !secure && !isLoopback(host))) {
    yield warning(['etcd', 'endpoints'], 'the password goes over the network in clear; write https://')
  }
}

function* patching({ etcd, patches, gateway }: Pick<Config, 'etcd' | 'patches' | 'gateway'>): Iterable<Finding> {
  if (patches.controller && etcd === undefined)
    yield wrong(['patches', 'controller'], 'a controller needs etcd; add etcd: { endpoints: [ … ] }, or write false')
  if (etcd === undefined) return
  if (gateway.fleet === undefined)
    yield warning(['gateway'], 'without gateway.fleet every patch is refused, since a patch names its fleet; add fleet')
  if (Object.keys(patches.trustedKeys).length === 0)
    yield warning(['etcd'], 'without patches.trustedKeys every patch is refused; add a key')
}

/** A patch flips the link of one root; a root inside another, or around the buffer, would be flipped with it. */
function* roots({ patches, gateway }: Pick<Config, 'patches' | 'gateway'>): Iterable<Finding> {
  const entries = Object.entries(patches.roots)
  for (const [name, root] of entries) {
    const path = ['patches', 'roots', name]
    const other = entries.find(([otherName, otherRoot]) => otherName !== name && isInside(root, otherRoot))
    if (other !== undefined) yield wrong(path, `it lies in patches.roots.${other[0]} (${other[1]}); write folders apart from each other`)
    if (gateway.dataDir !== undefined && (isInside(gateway.dataDir, root) || isInside(root, gateway.dataDir))) {
      yield wrong(path, `it and gateway.dataDir (${gateway.dataDir}) must lie apart; write another folder`)
    }
  }
}

function isInside(path: string, folder: string): boolean {
  const bare = folder.replace(/\/+$/, '')
  return path === bare || `${path}/`.startsWith(`${bare}/`)
}
