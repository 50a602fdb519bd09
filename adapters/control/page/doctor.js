/** A walk through everything that this box depends on, on demand. */
import { ask } from './ask.js'
import { chip, el, plain } from './dom.js'
import { box } from './live.js'

const TONES = { ok: 'ok', warn: 'wait', fail: 'bad', skipped: 'idle' }

export function doctor() {
  const list = el('div', {})
  const words = el(
    'p',
    { class: 'note', role: 'status' },
    'It looks at the clock, the files, the disk and every link, and says what to mend first. It takes up to 40 s, and changes nothing.',
  )
  const button = el('button', { type: 'button', class: 'main' }, 'Examine the box')
  const checks = []
  const take = (check) => {
    checks.push(check)
    let group = list.querySelector(`[data-group="${CSS.escape(check.group)}"]`)
    if (group === null) {
      group = el('ul', { 'data-group': check.group, 'aria-label': check.group })
      list.append(el('h3', {}, check.group), group)
    }
    const remedy = check.remedy === undefined ? '' : el('p', {}, el('strong', {}, 'What to do: '), plain(check.remedy))
    group.append(
      el(
        'li',
        { class: 'check' },
        chip(TONES[check.state] ?? 'idle', check.state),
        el('div', {}, el('strong', {}, plain(check.name)), ` ${plain(check.finding)}`, remedy),
      ),
    )
  }
  button.onclick = async () => {
    button.disabled = true
    list.replaceChildren()
    checks.length = 0
    words.textContent = 'Examining…'
    try {
      const answer = await ask('/doctor', { method: 'POST', headers: { 'x-edge-proof': box.proof } })
      for await (const line of linesOf(answer.body)) take(JSON.parse(line))
      words.textContent = ending(checks)
    } catch (error) {
      words.textContent = error.message
    }
    button.disabled = false
  }
  return {
    elements: [el('section', { class: 'card' }, el('div', { class: 'head' }, el('h2', {}, 'Doctor'), button), words, list)],
    close: () => undefined,
  }
}

function ending(checks) {
  const failed = checks.filter(({ state }) => state === 'fail')
  const warned = checks.filter(({ state }) => state === 'warn').length
  const first = failed[0]
  if (first === undefined)
    return warned === 0 ? `All well: ${checks.length} checks.` : `Nothing failed; ${warned} of ${checks.length} checks deserve a look.`
  return `${failed.length} of ${checks.length} checks failed. Fix first: ${plain(first.name)}: ${plain(first.finding)}${first.remedy === undefined ? '' : `. ${plain(first.remedy)}`}`
}

async function* linesOf(body) {
  const decoder = new TextDecoder()
  const reader = body.getReader()
  let rest = ''
  for (;;) {
    const { value, done } = await reader.read()
    if (done) return
    const lines = (rest + decoder.decode(value, { stream: true })).split('\n')
    rest = lines.pop()
    yield* lines
  }
}
