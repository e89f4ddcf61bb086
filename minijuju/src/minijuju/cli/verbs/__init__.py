"""The command line's verbs, by subject: functions of a `context.Context` to an exit code."""
