import type { Command } from 'commander'
import { thisHost } from '../../../config/host.ts'
import { loadConfig } from '../../../config/load.ts'
import type { Patch } from '../../../config/patch/document.ts'
import { ConfigError, formatProblem, type Problem } from '../../../config/problem.ts'
import type { GlobalOptions } from '../ask.ts'
import { show } from '../figures.ts'
import { type PatchFile, readPatchFile } from './document.ts'

export function checkCommand(program: Command, patch: Command): void {
  patch
    .command('check')
    .description('check a patch, signed or not; nothing is changed, and etcd is not asked')
    .argument('<file>', 'the patch in YAML or JSON, or as `patch sign` wrote it')
    .option('--config <file>', 'a box\'s configuration: the patch of kind "config" must leave it valid')
    .addHelpText('after', '\nExample:\n  edgectl patch check raise-limits.yaml --config plant-7.yaml')
    .action((file: string, options: { readonly config?: string }) => {
      const read = readPatchFile(file)
      // Without an own option the program's --config would stand here, which has a default.
      const config = options.config ?? givenConfig(program)
      const warnings = config === undefined ? [] : checkAgainst(file, read, config)
      const { id, kind, fleet, channel, sequence, expires } = read.patch
      const document = {
        ...{ schema: 1, valid: true, id, kind, fleet, channel, sequence, expires: new Date(expires).toISOString() },
        ...{ signed: read.envelope !== undefined, checkedAgainst: config, warnings },
      }
      show(program, document, [...warnings, textOf(read.patch, config)].join('\n'))
    })
}

function givenConfig(program: Command): string | undefined {
  return program.getOptionValueSource('config') === 'cli' ? program.opts<GlobalOptions>().config : undefined
}

function textOf({ id, kind, fleet, channel, sequence, expires, rollout }: Patch, config: string | undefined): string {
  const against = config === undefined || kind !== 'config' ? '' : `; ${config} stays valid with it`
  return `${id} is a valid patch of kind ${kind} for ${fleet} (${channel} ${sequence}), ${rollout.stages.length} stage(s), expires ${new Date(expires).toISOString()}${against}`
}

/** Loads the configuration with the patch above it; what is wrong because of the patch is told at its place in the patch. */
function checkAgainst(file: string, { patch, written }: PatchFile, config: string): readonly string[] {
  if (patch.kind !== 'config') return [`--config says nothing about a patch of kind ${patch.kind}`]
  const label = `patch ${patch.id}`
  const replaced = (problem: Problem): Problem =>
    problem.origin.source !== label
      ? problem
      : { ...problem, path: ['spec', ...problem.path], origin: written?.origin(['spec', ...problem.path]) ?? { source: file } }
  try {
    return loadConfig(config, [{ label, patch: patch.spec }], thisHost())
      .warnings.map(replaced)
      .map((problem) => `warning: ${formatProblem(problem)}`)
  } catch (error) {
    throw error instanceof ConfigError ? new ConfigError(error.problems.map(replaced)) : error
  }
}
