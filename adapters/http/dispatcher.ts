import { EnvHttpProxyAgent, type Dispatcher } from 'undici'

export interface HttpOptions {
  /** PEM texts. `cert` and `key` for a server that asks who we are; `ca` replaces the system's authorities. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string }
  /**
   * Proxies by scheme as `http://host:port`; `none` is a list as in NO_PROXY. What is not given here is taken from the
   * environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` or in lower case).
   */
  readonly proxy?: { readonly http?: string; readonly https?: string; readonly none?: string }
  readonly connectTimeoutMs?: number
}

/** Our own, never the global one: no other part of the program shares its sockets or its proxies. HTTP/1.1 only. */
export function dispatcherOf(options: HttpOptions): Dispatcher {
  const { proxy = {}, tls = {}, connectTimeoutMs = 10_000 } = options
  return new EnvHttpProxyAgent({
    allowH2: false,
    connect: { timeout: connectTimeoutMs, ...tls },
    requestTls: { ...tls },
    connections: 4,
    maxHeaderSize: 16_384,
    ...(proxy.http === undefined ? {} : { httpProxy: proxy.http }),
    ...(proxy.https === undefined ? {} : { httpsProxy: proxy.https }),
    ...(proxy.none === undefined ? {} : { noProxy: proxy.none }),
  })
}
