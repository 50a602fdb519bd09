import { readFile } from 'node:fs/promises'
import type { SASLOptions } from 'kafkajs'
import { messageOf } from '../../daemon/errors.ts'
import { KafkaError } from './failure.ts'
import type { KafkaClientSettings, KafkaSaslSettings, KafkaTlsSettings, TokenRequest, TokenSource } from './settings.ts'

/** PEM. */
export interface TlsMaterial {
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

export interface Credentials {
  readonly tls: TlsMaterial | undefined
  readonly sasl: SASLOptions | undefined
}

/** Reads the files of keys and secrets, anew for each life. Rejects with a `KafkaError` (alarm) that names the file. */
export async function readCredentials(settings: KafkaClientSettings): Promise<Credentials> {
  const { tls, sasl } = settings
  return { tls: tls && (await readTls(tls)), sasl: sasl && (await readSasl(sasl)) }
}

async function readTls(paths: KafkaTlsSettings): Promise<TlsMaterial> {
  const named = (['ca', 'cert', 'key'] as const).flatMap((role) => (paths[role] === undefined ? [] : [[role, paths[role]] as const]))
  return Object.fromEntries(await Promise.all(named.map(async ([role, path]) => [role, await readSecret(path)] as const)))
}

async function readSasl(sasl: KafkaSaslSettings): Promise<SASLOptions> {
  if (sasl.mechanism === 'oauthbearer') {
    const { token } = sasl
    // Asked at each authentication, also when a session of the broker ends during a life.
    return { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: await fetchToken(token) }) }
  }
  return { mechanism: sasl.mechanism, username: sasl.username, password: await readLine(sasl.passwordFile) }
}

async function fetchToken(source: TokenSource): Promise<string> {
  return 'file' in source ? readLine(source.file) : requestToken(source)
}

/** A secret is the whole file but for one line end. */
async function readLine(path: string): Promise<string> {
  const text = (await readSecret(path)).toString('utf8').replace(/\r?\n$/, '')
  if (text === '') throw unusable(`${path} is empty`, `Write the secret into ${path}.`)
  return text
}

async function readSecret(path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (error) {
    throw unusable(
      `${path} can't be read: ${messageOf(error)}`,
      `Let the user that runs the gateway read ${path}, or name another file.`,
      error,
    )
  }
}

const TOKEN_TIMEOUT_MS = 30_000

async function requestToken({ url, clientId, clientSecretFile, scope }: TokenRequest): Promise<string> {
  const secret = await readLine(clientSecretFile)
  const form = new URLSearchParams({ grant_type: 'client_credentials', ...(scope === undefined ? {} : { scope }) })
  // RFC 6749 section 2.3.1: both parts are form-encoded before they are joined.
  const basic = Buffer.from(`${encodeURIComponent(clientId)}:${encodeURIComponent(secret)}`).toString('base64')
  try {
    const answer = await fetch(url, {
      method: 'POST',
      headers: { authorization: `Basic ${basic}`, accept: 'application/json' },
      body: form,
      redirect: 'error',
      signal: AbortSignal.timeout(TOKEN_TIMEOUT_MS),
    })
    return tokenOf(answer.status, await answer.text())
  } catch (error) {
    const reason = error instanceof Error && error.cause !== undefined ? messageOf(error.cause) : messageOf(error)
    throw unusable(
      `no token for Kafka from ${url}: ${reason}`,
      'Look at kafka.sasl: tokenUrl, clientId, clientSecretFile and scope.',
      error,
    )
  }
}

function tokenOf(status: number, body: string): string {
  if (status !== 200) throw new Error(`status ${status}`)
  const answer: unknown = JSON.parse(body)
  const token = typeof answer === 'object' && answer !== null && 'access_token' in answer ? answer.access_token : undefined
  if (typeof token !== 'string' || token === '') throw new Error('the answer has no access_token')
  return token
}

function unusable(message: string, remedy: string, cause?: unknown): KafkaError {
  return new KafkaError({ kind: 'transient', message, remedy, alarm: true, fate: 'none', cause })
}
