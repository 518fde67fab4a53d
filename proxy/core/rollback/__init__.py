"""Taking bad changes back: signals, verdicts, six states, staged actions. All of it at virtual time."""
