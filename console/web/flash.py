"""The message that the next page shows: what an action has done, or why it was refused."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from pocketwatch.text import shorten

COOKIE = "pocketwatch_flash"
LONGEST = 1000  # characters; a cookie holds 4 KB
LIFETIME = 60  # seconds
Kind = Literal["done", "problem"]


@dataclass(frozen=True, slots=True)
class Flash:
    kind: Kind
    text: str


def add(response: Response, kind: Kind, text: str) -> None:
    value = urlsafe_b64encode(json.dumps([kind, shorten(text, LONGEST)]).encode()).decode()
    response.set_cookie(COOKIE, value, max_age=LIFETIME, httponly=True, samesite="strict")


def read(request: Request) -> Flash | None:
    try:
        kind, text = json.loads(urlsafe_b64decode(request.cookies.get(COOKIE, "")))
    except ValueError:
        return None
    return Flash("problem" if kind == "problem" else "done", str(text))


def forget(response: Response) -> None:
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
