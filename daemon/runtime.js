const NEEDED = [22, 19]

/** Ends the program with one line when Node is older than the driver of the buffer and the source files allow. */
export function requireNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
  if (major > NEEDED[0] || (major === NEEDED[0] && minor >= NEEDED[1])) return
  console.error(
    `edge-gateway needs Node ${NEEDED.join('.')} or later, and this is ${process.versions.node} (${process.execPath}). Node 24 LTS is recommended.`,
  )
  process.exit(69)
}
