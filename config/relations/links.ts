import type { Finding } from '../issues.ts'
import type { Path } from '../problem.ts'
import type { Endpoint } from '../schema/scalars.ts'
import { wrong } from './relation.ts'

/** Rules that every link which the gateway opens has in common. */

interface TlsFiles {
  readonly cert?: string | undefined
  readonly key?: string | undefined
}

/** `path` is the map that holds `tls`. */
export function* clientCertificate(tls: TlsFiles | undefined, path: Path): Iterable<Finding> {
  if (tls?.cert !== undefined && tls.key === undefined)
    yield wrong([...path, 'tls', 'cert'], 'a certificate is of no use without its key; add key: /path')
  if (tls?.key !== undefined && tls.cert === undefined)
    yield wrong([...path, 'tls', 'key'], 'a key is of no use without its certificate; add cert: /path')
}

/** All addresses of one link speak TLS, or none does; `tls` only where one does. */
export function* schemeMatchesTls(
  endpoints: readonly Endpoint[],
  tls: object | undefined,
  urlPath: Path,
  path: Path,
  plain: string,
  secure: string,
): Iterable<Finding> {
  const some = endpoints.some((endpoint) => endpoint.secure)
  if (some && !endpoints.every((endpoint) => endpoint.secure))
    yield wrong(urlPath, `some addresses are ${plain}:// and some ${secure}://; write ${secure}:// for all`)
  if (!some && endpoints.length > 0 && tls !== undefined) {
    yield wrong([...path, 'tls'], `the address is ${plain}://, without TLS; write ${secure}://, or remove tls`)
  }
}

/** MQTT 3.1.1 has no password without a user name ([MQTT-3.1.2-22]), and no broker or etcd wants one. */
export function* usernameWithPassword(
  login: { readonly username?: string | undefined; readonly passwordFile?: string | undefined },
  path: Path,
): Iterable<Finding> {
  if (login.passwordFile !== undefined && login.username === undefined) {
    yield wrong([...path, 'passwordFile'], 'a password without a user name; add username')
  }
}
