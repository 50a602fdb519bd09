/** Puts the page together: the verdict above all, and one view below. */
import { tellAll } from './ask.js'
import { devices } from './devices.js'
import { doctor } from './doctor.js'
import { el, plain, say, svg } from './dom.js'
import { ledger } from './ledger.js'
import { letters } from './letters.js'
import { box, live, onNews } from './live.js'
import { log } from './log.js'
import { overview } from './overview.js'
import { patches } from './patches.js'
import { count, span, time } from './words.js'

const VIEWS = [
  { id: 'overview', title: 'Overview', open: overview },
  { id: 'devices', title: 'Devices', open: devices, badge: ({ devices: known }) => known?.silent },
  { id: 'patches', title: 'Patches', open: patches, badge: ({ patches: known }) => (known?.running ? 1 : undefined) },
  { id: 'letters', title: 'Dead letters', open: letters, badge: ({ buffer }) => buffer?.deadLetters },
  { id: 'ledger', title: 'Ledger', open: ledger },
  { id: 'doctor', title: 'Doctor', open: doctor },
  { id: 'log', title: 'Log', open: log },
]

/** A shape for each state, so that nobody needs to see its colour. */
const SHAPES = {
  ok: 'M5 12.5l4.5 4.5L19 7.5',
  buffering: 'M12 6v6l4 2.5',
  degraded: 'M12 6.5v7M12 16.6v.4',
  blocked: 'M7 12h10',
  stuck: 'M7.5 7.5l9 9m0-9l-9 9',
  lost: 'M7.5 7.5l9 9m0-9l-9 9',
}
const part = (id) => document.getElementById(id)
const links = new Map()
/** As the daemon wrote it into the page. */
const PAINTED = {
  state: part('verdict-word').textContent,
  line: part('verdict-line').textContent,
  remedy: part('verdict-remedy').textContent,
  gateway: part('gateway').textContent,
}
let current
/** The verdict that a screen reader heard last; the line itself counts seconds. */
let told

function showVerdict() {
  const { link, status } = box
  const { state, line, reason, remedy, since } = status?.verdict ?? PAINTED
  const lost = link === 'lost' || link === 'full'
  const shown = lost ? 'lost' : state
  part('verdict').dataset.state = shown
  if (part('verdict-sign').dataset.shape !== shown) {
    part('verdict-sign').dataset.shape = shown
    const stroke = { fill: 'none', stroke: 'currentColor', 'stroke-width': '2.2', 'stroke-linecap': 'round', 'stroke-linejoin': 'round' }
    const ring = svg('circle', { cx: '12', cy: '12', r: '10.4', 'stroke-dasharray': shown === 'lost' ? '3 4' : undefined })
    part('verdict-sign').replaceChildren(
      svg('svg', { viewBox: '0 0 24 24', ...stroke }, ring, svg('path', { d: SHAPES[shown] ?? 'M7 12h.1M12 12h.1M17 12h.1' })),
    )
  }
  say(part('verdict-word'), lost ? 'not connected' : state)
  say(
    part('verdict-line'),
    plain(lost ? `${sentence(linkWords())}. What stands below is old. Last known: ${state}, ${line}` : sentence(line)),
  )
  say(
    part('verdict-remedy'),
    plain(
      link === 'lost'
        ? 'wait for a restart; otherwise look at the box: systemctl status edge-gateway'
        : lost
          ? 'close the page where nobody needs it'
          : (remedy ?? ''),
    ),
  )
  // Soon after a tab is seen again, what it shows is still from before.
  const when = link === 'wait' && status ? `as of ${time(box.heardAt)}` : since ? `since ${time(since)}` : ''
  say(part('verdict-since'), lost ? '' : when)
  const news = lost ? 'not connected' : `${state}${reason ? `: ${reason}` : ''}`
  if (told !== undefined && told !== news) tellAll(plain(news))
  told = news
  document.title = `${link === 'rest' ? '' : `${lost ? 'not connected' : state} · `}${PAINTED.gateway}`
}

function sentence(line) {
  return line.charAt(0).toUpperCase() + line.slice(1)
}

function linkWords() {
  const words = {
    wait: 'connecting',
    rest: 'paused while nobody looks',
    live: 'live',
    lost: `not connected since ${time(box.lostAt)}`,
    full: 'too many watch this page already: it tries again by itself',
  }
  return words[box.link]
}

function showLink() {
  const { link } = box
  part('link').dataset.link = link === 'full' ? 'lost' : link
  say(part('link-words'), linkWords())
  document.body.classList.toggle('old', link !== 'live' && box.status !== undefined)
}

function showFoot() {
  const { status } = box
  const site = `Edge gateway ${status.version} · up ${span(status.uptimeSeconds)} · ${count(status.received.messages)} messages received since the start`
  say(part('foot'), site)
}

function showBadges() {
  for (const { id, badge } of VIEWS) {
    const value = badge?.(box.status) ?? 0
    const place = links.get(id).querySelector('.count')
    place.hidden = value === 0
    say(place, count(value))
  }
}

function choose() {
  const wanted = VIEWS.find(({ id }) => `#${id}` === location.hash) ?? VIEWS[0]
  if (current?.id === wanted.id) return
  current?.close?.()
  current = { id: wanted.id, ...wanted.open() }
  for (const [id, link] of links) {
    if (id === wanted.id) {
      link.setAttribute('aria-current', 'page')
      // On a phone the bar is longer than the screen.
      part('tabs').scrollLeft = link.offsetLeft - part('tabs').offsetLeft - 40
    } else link.removeAttribute('aria-current')
  }
  part('view').replaceChildren(...current.elements)
  if (box.status !== undefined) current.refresh?.('hello')
}

function start() {
  for (const { id, title } of VIEWS) links.set(id, el('a', { href: `#${id}` }, title, el('span', { class: 'count', hidden: true })))
  part('tabs').append(...links.values())
  onNews((what) => {
    if (what === 'link') {
      if (box.link === 'lost') box.lostAt = new Date(box.heardAt)
      showLink()
      showVerdict()
      return
    }
    if (what === 'change' || what === 'hello') {
      showLink()
      showVerdict()
      showFoot()
      showBadges()
    }
    current.refresh?.(what)
  })
  addEventListener('hashchange', () => {
    choose()
    part('view').focus({ preventScroll: true })
  })
  choose()
  showVerdict()
  live()
}

start()
