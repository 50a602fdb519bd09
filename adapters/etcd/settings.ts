/** What the adapter must know of the cluster. The shapes are those of the config file. */
export interface EtcdClientSettings {
  /** One or more, all of the same scheme. `host` without the brackets of IPv6. */
  readonly endpoints: readonly { readonly host: string; readonly port: number; readonly secure: boolean }[]
  /** Begins and ends with `/`; put in front of every key. */
  readonly prefix: string
  readonly tls: EtcdTlsSettings | undefined
  readonly username: string | undefined
  /** Read anew for each connection, so that a changed password needs no restart. */
  readonly passwordFile: string | undefined
  /** For one call without a timeout of its own, the first connection included. */
  readonly timeoutMs: number
}

/** Paths of PEM files. Without `ca` Node's authorities count. */
export interface EtcdTlsSettings {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
}
