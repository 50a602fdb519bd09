/** What the adapter must know of the cluster. The shapes of `tls` and `sasl` are those of the config file. */
export interface KafkaClientSettings {
  /** Asked first, in this order; the cluster names the rest. `host` without the brackets of IPv6. */
  readonly brokers: readonly { readonly host: string; readonly port: number }[]
  readonly gatewayId: string
  /** Begins the transactional id, the groups of the positions and the topic of the positions. */
  readonly prefix: string
  /** `at-least-once`: a plain producer, for brokers without transactions; nothing is committed or read back. */
  readonly delivery: 'exactly-once' | 'at-least-once'
  readonly compression: 'gzip' | 'zstd' | 'none'
  readonly tls: KafkaTlsSettings | undefined
  readonly sasl: KafkaSaslSettings | undefined
}

/** Paths of PEM files. Without `ca` the system's authorities count. */
export interface KafkaTlsSettings {
  readonly ca: string | undefined
  readonly cert: string | undefined
  readonly key: string | undefined
}

export type KafkaSaslSettings =
  | { readonly mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512'; readonly username: string; readonly passwordFile: string }
  | { readonly mechanism: 'oauthbearer'; readonly token: TokenSource }

export type TokenSource = { readonly file: string } | TokenRequest

/** OAuth 2 client credentials (RFC 6749 section 4.4). */
export interface TokenRequest {
  readonly url: string
  readonly clientId: string
  readonly clientSecretFile: string
  readonly scope: string | undefined
}

export function transactionalId({ prefix, gatewayId }: KafkaClientSettings): string {
  return `${prefix}.${gatewayId}`
}

/** One group per epoch, so that positions of different epochs can never be taken for each other. */
export function groupOf({ prefix, gatewayId }: KafkaClientSettings, epoch: string): string {
  return `${prefix}.${gatewayId}.${epoch}`
}

export function positionsTopic({ prefix }: KafkaClientSettings): string {
  return `${prefix}.positions`
}
