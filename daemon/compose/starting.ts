/** What a start runs on: the files, what is remembered above them, and what a failed start taught. */
import { thisHost } from '../../config/host.ts'
import { loadConfig } from '../../config/load.ts'
import { readMemory } from '../../store/memory.ts'
import type { Clock } from '../clock.ts'
import { LAYERS, OVERRIDES } from '../patch/config-layers.ts'
import type { Json } from '../patch/memory.ts'
import { trialsIn } from './configuration.ts'
import { aboveFiles, loadLayered, type ConfigFiles, type Layered } from './layers.ts'
import { TrialMark } from './trial.ts'

export interface Start {
  readonly files: ConfigFiles
  readonly layered: Layered
  readonly mark: TrialMark
  /** Key of the layer on trial that this start is made with. */
  readonly trial: string | undefined
}

/**
 * Throws a ConfigError when the files are not valid. `daemon`: this is the daemon itself, which owns the memory and may
 * roll a torn write of it back; a technician's command only looks.
 */
export function loadForStart(path: string, clock: Clock, who: 'daemon' | 'command' = 'daemon'): Start {
  const files = { path, host: thisHost() }
  const { dataDir } = loadConfig(path, [], files.host).settings.gateway
  const mark = new TrialMark(dataDir)
  const remembered = rememberedIn(dataDir, who === 'daemon')
  const trials = trialsIn(remembered)
  const layered = loadLayered(files, aboveFiles(remembered, clock), mark.barred(trials))
  const trial = [...trials.keys()].find((key) => !layered.leftOut.some((out) => out.key === key))
  return { files, layered, mark, trial }
}

/** Empty before the first start, and when the file is damaged: the store says so, and sets it aside. */
function rememberedIn(dataDir: string, recover: boolean): ReadonlyMap<string, Json> {
  return new Map([LAYERS, OVERRIDES].flatMap((prefix) => [...readMemory(dataDir, prefix, { recover }).entries]))
}
