"""`python -m pocketwatch`: the same as the command."""

from pocketwatch.cli.main import main

main()
