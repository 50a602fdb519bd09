import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { extname } from 'node:path'
import { gzipSync } from 'node:zlib'
import type { Route } from '../../daemon/ports.ts'

const FOLDER = new URL('page/', import.meta.url)
const TYPES: Readonly<Record<string, string>> = {
  '.css': 'text/css; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.svg': 'image/svg+xml',
}

/** What the page is made of, read and packed once: some 70 kB, 27 kB over the wire with gzip (RFC 9110 section 8.4.1.3). */
export interface PageFiles {
  /** By name, with places for values. */
  readonly templates: Readonly<Record<'index' | 'login', string>>
  /** Everything else, each under `/assets/`, with a tag by which a browser asks whether it has changed. */
  readonly routes: readonly Route[]
}

export async function pageFiles(): Promise<PageFiles> {
  const names = (await readdir(FOLDER)).filter((name) => TYPES[extname(name)] !== undefined)
  const [index, login] = await Promise.all(['index.html', 'login.html'].map((name) => readFile(new URL(name, FOLDER), 'utf8')))
  const routes = await Promise.all(names.map(async (name) => assetRoute(name, await readFile(new URL(name, FOLDER)))))
  return { templates: { index: index ?? '', login: login ?? '' }, routes }
}

/** Only what holds no secret is packed: the length of a packed secret tells of it (BREACH). */
function assetRoute(name: string, file: Buffer): Route {
  const contentType = TYPES[extname(name)] ?? ''
  const shared = { 'cache-control': 'no-cache', vary: 'accept-encoding' }
  const plain = { body: file, headers: { ...shared, etag: tagOf(file) } }
  const body = gzipSync(file, { level: 9 })
  const packed = { body, headers: { ...shared, etag: tagOf(body), 'content-encoding': 'gzip' } }
  return {
    method: 'GET',
    path: `/assets/${name}`,
    run: ({ headers: asked }) => {
      const answer = takesGzip(asked['accept-encoding']) ? packed : plain
      const { etag } = answer.headers
      if (asked['if-none-match'] === etag) return { status: 304, headers: { ...shared, etag }, contentType, body: '' }
      return { status: 200, contentType, ...answer }
    },
  }
}

function tagOf(body: Buffer): string {
  return `"${createHash('sha256').update(body).digest('hex').slice(0, 24)}"`
}

/** RFC 9110 section 12.5.3, as browsers and proxies write it: `gzip;q=0` refuses. */
function takesGzip(field = ''): boolean {
  return field.split(',').some((coding) => /^\s*gzip\s*(;\s*q=(?!0(\.0*)?\s*$).*)?$/i.test(coding))
}
