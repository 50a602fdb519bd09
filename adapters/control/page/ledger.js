/** Every message is somewhere: the sum of all outcomes is what came in. */
import { look } from './ask.js'
import { card, chip, el, plain, renew, say, table } from './dom.js'
import { renewing } from './live.js'
import { count, size } from './words.js'

const OUTCOMES = [
  ['delivered', 'delivered'],
  ['buffered', 'buffered'],
  ['inFlight', 'in flight'],
  ['deadLettered', 'dead letters'],
  ['lost', 'lost'],
  ['exported', 'exported'],
]
const REASONS = [
  { title: 'Reason', wide: true },
  { title: 'Messages', num: true },
  { title: 'Payload', num: true },
]
const LINES = [
  { title: 'Device', wide: true },
  { title: 'Stream' },
  { title: 'Received', num: true },
  { title: 'Delivered', num: true },
  { title: 'Shed', num: true },
]

export function ledger() {
  const sum = el('div', { class: 'equation' })
  const verdict = el('p', {})
  const shed = el('div', { class: 'scroll' })
  const lines = el('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Devices in the ledger' })
  const words = el('p', { class: 'trouble', role: 'status' })
  const show = async () => {
    try {
      const { totals, equation, devices } = await look('/ledger?devices=20')
      const all = messages(totals.shed)
      const parts = [...OUTCOMES.map(([key, name]) => [name, totals[key]?.messages ?? 0]), ['shed', all]]
      const boxes = parts.flatMap(([name, value], i) => [el('span', {}, i === 0 ? '=' : '+'), figure(name, value)])
      sum.replaceChildren(figure('received', totals.received.messages), ...boxes)
      verdict.replaceChildren(
        equation.holds
          ? chip('ok', 'every message is accounted for')
          : chip('bad', `${count(equation.difference)} messages are not accounted for: report this`),
      )
      const reasons = Object.entries(totals.shed).map(([reason, part]) => [reason, count(part.messages), size(part.bytes)])
      renew(shed, reasons.length === 0 ? el('p', { class: 'note' }, 'Nothing was shed.') : table('Shed, by reason', REASONS, reasons))
      renew(
        lines,
        table(
          'Devices',
          LINES,
          devices.map((line) => [
            el('span', { class: 'mono' }, plain(line.device)),
            plain(line.stream),
            count(line.received.messages),
            count(line.delivered.messages),
            count(messages(line.shed)),
          ]),
        ),
      )
      say(words, '')
    } catch (error) {
      say(words, error.message)
    }
  }
  const renewal = renewing(show)
  return {
    elements: [
      card('Ledger, over all starts', sum, verdict, words),
      card('Shed, by reason', shed),
      card('By device: the 20 with most messages', lines),
    ],
    close: renewal.close,
  }
}

function figure(name, value) {
  return el('div', {}, el('b', {}, count(value)), name)
}

function messages(shed) {
  return Object.values(shed ?? {}).reduce((all, part) => all + part.messages, 0)
}
