"""What `pocketwatch doctor` reports: groups and the console make findings of it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; a `detail` that is not ok names the remedy."""

    subject: str
    result: Literal["ok", "warning", "problem"]
    detail: str
