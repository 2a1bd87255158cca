"""`python -m pocketwatch`: the same as the command."""

from console.cli.main import main

main()
