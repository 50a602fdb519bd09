/** The page's HTML with what the daemon knows at that moment: the verdict is there before any script has run. */

/** Fills `{{name}}`; every value is text, and can't become markup. Throws for a name without a value. */
export function paint(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/\{\{(\w+)\}\}/g, (_, name: string) => {
    const value = values[name]
    if (value === undefined) throw new Error(`the page's template asks for ${name}`)
    return escaped(value)
  })
}

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`)
}
