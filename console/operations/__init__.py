"""What operators do, for the command line and the browser: it prints nothing, and records each action."""
