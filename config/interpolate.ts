import { Wrong } from './units.ts'

export type Environment = Readonly<Record<string, string | undefined>>

/** `$${` is a literal `${`; else `${NAME}` or `${NAME:-default}`; else a `${` that nobody can mean. */
const REFERENCE = /\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{/g

/** True if the text holds anything that `interpolate` would change or refuse. */
export function hasReference(text: string): boolean {
  return text.includes('${')
}

/**
 * Replaces `${NAME}` and `${NAME:-default}` in one scalar. The default is used when the variable is unset or
 * empty, as in the shell. What is put in is never read again for references. A plain `$` stays as it is, so
 * that regular expressions need no escape.
 */
export function interpolate(text: string, environment: Environment): string | Wrong {
  let wrong: Wrong | undefined
  const result = text.replace(REFERENCE, (match, name: string | undefined, fallback: string | undefined) => {
    if (match === '$${') return '${'
    const value = name === undefined ? malformed() : lookUp(name, fallback, environment)
    if (typeof value === 'string') return value
    wrong ??= value
    return ''
  })
  return wrong ?? result
}

function malformed(): Wrong {
  return new Wrong('cannot read this ${…}; write ${NAME} or ${NAME:-default}, or $${ for the two characters ${')
}

function lookUp(name: string, fallback: string | undefined, environment: Environment): string | Wrong {
  const value = Object.hasOwn(environment, name) ? environment[name] : undefined
  if (fallback !== undefined && (value === undefined || value === '')) return fallback
  return (
    value ??
    new Wrong(`the environment variable ${name} is not set; set it (systemd: Environment=${name}=…), or write \${${name}:-default}`)
  )
}
