"""Run something in the tests' own marketplace, in a process with Django set up.

python -m tests.site manage COMMAND …            a management command
python -m tests.site call APP.FUNCTION '{…}'      a function of `tests/site/APP/calls.py` by keyword; prints JSON
"""

import importlib
import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.site.settings")


def main() -> None:
    verb, *arguments = sys.argv[1:]
    if verb == "manage":
        from django.core.management import execute_from_command_line  # noqa: PLC0415

        execute_from_command_line(["manage.py", *arguments])
    elif verb == "call":
        django.setup()
        app, _, function = arguments[0].partition(".")
        called = getattr(importlib.import_module(f"tests.site.{app}.calls"), function)
        print(json.dumps(called(**json.loads(arguments[1])), default=str))  # noqa: T201
    else:
        sys.exit(f'"{verb}": unknown; use manage or call')


if __name__ == "__main__":
    main()
