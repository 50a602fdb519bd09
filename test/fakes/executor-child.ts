/** The executor as it is wired, with another systemctl. */
import { SystemdUnits } from '../../adapters/host/units.ts'
import { executorServer } from '../../daemon/compose/executor.ts'

const { configPath, stateDir, socket, systemctl, idleMs } = JSON.parse(process.argv[2] ?? '') as Record<string, string>
const say = (fields: object, message: string): void => console.log(message, JSON.stringify(fields))
const log = { debug: say, info: say, warn: say, error: say }
const units = new SystemdUnits({ systemctl: systemctl ?? '', limitMs: 5_000 })
await executorServer({ configPath: configPath ?? '', stateDir: stateDir ?? '', idleMs: Number(idleMs ?? Infinity), log, units }).listen({
  path: socket ?? '',
})
