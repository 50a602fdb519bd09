/** Exit codes, from sysexits(3); the unit's RestartPreventExitStatus names the ones that a restart can't mend. */
export const EXIT = {
  ok: 0,
  usage: 64,
  unavailable: 69,
  software: 70,
  io: 74,
  /** Another daemon owns the data directory, another program a port, or the settings of a patch on trial prevent the start: the next one is made without. */
  temporary: 75,
  permission: 77,
  config: 78,
} as const
