"""The user's editor, for text that a command is given."""

import os
import shlex
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from pocketwatch.errors import PocketwatchError

VARIABLES = ("VISUAL", "EDITOR")
DEFAULT = "vi"


def edit_text(text: str) -> str:
    """Open a text in the editor; return what was saved.

    Raises:
        PocketwatchError: when the editor cannot be started or fails.
    """
    command = next(filter(None, map(os.environ.get, VARIABLES)), DEFAULT)
    with TemporaryDirectory(prefix="pocketwatch-") as folder:
        file = Path(folder) / "body.json"
        file.write_text(text)
        try:
            subprocess.run([*shlex.split(command), str(file)], check=True)  # noqa: S603  the user's own program
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise PocketwatchError(f'editor "{command}": {error}; set EDITOR to one that works') from error
        return file.read_text()
