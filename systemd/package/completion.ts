/** Completion for bash, from the commands themselves. */
import type { Command } from 'commander'
import { fullName, leaves } from './man.ts'

export function bashCompletion(program: Command): string {
  const name = program.name()
  const commands = [program, ...leaves(program)]
  const steps = commands.slice(1).map((command) => `      '${fullName(command)}') path='${fullName(command)}' ;;`)
  const words = commands.map((command) => `    '${fullName(command)}') words='${wordsAfter(command, program).join(' ')}' ;;`)
  return `# bash completion for ${name}
_${name.replaceAll('-', '_')}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} path=${name} word words=
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $word" in
${steps.join('\n')}
    esac
  done
  case $prev in
    ${takingFiles(commands).join(' | ')})
      mapfile -t COMPREPLY < <(compgen -f -- "$cur")
      return
      ;;
  esac
  case $path in
${words.join('\n')}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -o default -F _${name.replaceAll('-', '_')} ${name}
`
}

function wordsAfter(command: Command, program: Command): string[] {
  const help = command.createHelp()
  const names = help.visibleCommands(command).map((sub) => sub.name())
  const options = [...help.visibleOptions(command), ...(command === program ? [] : help.visibleOptions(program))]
  const flags = options.map(({ long }) => long).filter((long) => long !== undefined && long !== null)
  return [...new Set([...names.filter((word) => word !== 'help'), ...flags])]
}

function takingFiles(commands: readonly Command[]): string[] {
  const options = commands.flatMap((command) => command.options)
  const files = options.filter(({ flags, long }) => /<(file|path|folder|dir)/.test(flags) && long !== undefined && long !== null)
  return [...new Set(files.map(({ long }) => long ?? ''))].sort()
}
