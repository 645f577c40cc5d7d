/** The option that names a profile, for `Command.option`. */
export const PROFILE_OPTION = [
  '--profile <name>',
  'the daemon to speak to (ingot config list shows the names)',
] as const;
