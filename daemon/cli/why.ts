/** `edgectl why …`: why something is as it is, in plain sentences. */
import type { Command } from 'commander'
import { firstToFix } from '../doctor/check.ts'
import type { WhyKafkaDocument } from '../why-kafka.ts'
import { ask, load, type Answer, type GlobalOptions } from './ask.ts'
import type { DeviceWhyDocument } from './device-documents.ts'
import { show } from './figures.ts'
import type { WhyDocument } from './patch-views.ts'
import { printable } from './text.ts'

export function whyCommands(program: Command): void {
  const why = program.command('why').description('why something is as it is, in plain words')
  whyPatch(program, why)
  whyDevice(program, why)
  whyKafka(program, why)
}

/** Of a command that the files answered: 2 where the daemon hangs, 3 where none runs. */
function exitWithout({ silent }: Answer): number {
  return silent ? 2 : 3
}

function whyPatch(program: Command, why: Command): void {
  why
    .command('patch <id>')
    .description('why this patch is where it is on this box')
    .addHelpText('after', '\nExample:\n  edgectl why patch 2026-11-raise-limits')
    .action(async (id: string) => {
      const { document } = await ask(program.opts<GlobalOptions>(), `/patches/${encodeURIComponent(id)}/why`)
      show(program, document, printable((document as WhyDocument).sentence))
    })
}

function whyDevice(program: Command, why: Command): void {
  why
    .command('device <id>')
    .description('why messages of this device do not arrive, or how it stands: seen, connected, shed, refused, and what to do')
    .addHelpText('after', '\nExample:\n  edgectl why device cam-7')
    .action(async (id: string) => {
      const answer = await ask(program.opts<GlobalOptions>(), `/why/device/${encodeURIComponent(id)}`)
      const { document, live } = answer
      const { sentence, remedy, state } = document as DeviceWhyDocument
      show(program, document, printable(sentence) + (remedy === undefined ? '' : `\n  try: ${printable(remedy)}`))
      if (!live) process.exitCode = exitWithout(answer)
      else if (state !== 'online') process.exitCode = 1
    })
}

function whyKafka(program: Command, why: Command): void {
  why
    .command('kafka')
    .description('what the daemon is doing with Kafka now, what that means for the messages, and what to do')
    .addHelpText('after', '\nExample:\n  edgectl why kafka')
    .action(async () => {
      const options = program.opts<GlobalOptions>()
      const answer = await ask(options, '/why/kafka')
      const { document, live } = answer
      const told = document as WhyKafkaDocument
      if (live && told.reason === undefined) return show(program, told, printable(told.sentence))
      const { kafkaChecks } = await import('../compose/doctor/kafka.ts')
      const { ways } = await import('../compose/doctor/ways.ts')
      const checks = await kafkaChecks(load(options).settings, ways())
      const first = firstToFix(checks)
      const way = first?.remedy === undefined ? '' : ` → ${first.remedy}`
      const look = first === undefined ? 'Seen from here, Kafka is well.' : `Seen from here: ${first.name}: ${first.finding}${way}`
      show(program, { ...told, look: checks }, printable(`${told.sentence} ${look}`))
      process.exitCode = live ? 1 : exitWithout(answer)
    })
}
