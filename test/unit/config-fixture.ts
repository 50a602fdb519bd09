import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Host } from '../../config/host.ts'
import { type Layer, loadConfig, type LoadedConfig } from '../../config/load.ts'
import { ConfigError, formatProblem } from '../../config/problem.ts'

export interface FixtureOptions {
  readonly environment?: Readonly<Record<string, string>>
  readonly layers?: readonly Layer[]
  /** Files below the folder of config.yaml, such as `config.d/10-site.yaml`. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>
  readonly diskBytes?: number
  readonly host?: Partial<Host>
}

/** A box with a machine-id and nothing else. */
export function bareHost(options: FixtureOptions = {}): Host {
  return {
    environment: options.environment ?? {},
    readText: (path) => (path === '/etc/machine-id' ? '0123456789abcdef0123456789abcdef\n' : undefined),
    diskBytes: () => options.diskBytes ?? 100 * 2 ** 30,
    ...options.host,
  }
}

/** Runs `use` in a folder that holds config.yaml and the other files; the folder is gone afterwards. */
export function inFolder<T>(text: string | Uint8Array, options: FixtureOptions, use: (path: string, folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'config-'))
  try {
    mkdirSync(join(folder, 'config.d'))
    writeFileSync(join(folder, 'config.yaml'), text)
    for (const [name, content] of Object.entries(options.files ?? {})) writeFileSync(join(folder, name), content)
    return use(join(folder, 'config.yaml'), folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Loads a text as config.yaml. */
export function loadText(text: string | Uint8Array, options: FixtureOptions = {}): LoadedConfig {
  return inFolder(text, options, (path) => loadConfig(path, options.layers ?? [], bareHost(options)))
}

/** The lines of the error, with the folder taken away; none when it loads. */
export function errorsOf(text: string | Uint8Array, options: FixtureOptions = {}): readonly string[] {
  return inFolder(text, options, (path, folder) => {
    try {
      loadConfig(path, options.layers ?? [], bareHost(options))
      return []
    } catch (error) {
      if (error instanceof ConfigError) return error.message.replaceAll(`${folder}/`, '').split('\n')
      throw error
    }
  })
}

/** The lines of the warnings, with the folder taken away. */
export function warningsOf(text: string, options: FixtureOptions = {}): readonly string[] {
  return inFolder(text, options, (path, folder) =>
    loadConfig(path, options.layers ?? [], bareHost(options)).warnings.map((problem) =>
      formatProblem(problem).replaceAll(`${folder}/`, ''),
    ),
  )
}
