"""Bounds of a JSON body, checked before it is parsed: what is built from it stays small, whatever it holds.

The scan takes constant memory and stops at the first bound that is passed. It does not validate: what is not JSON is
left to the parser.
"""

import re

from schemas.types import MAX_DEPTH

MAX_VALUES = 20_000
MAX_FIELDS = 3_000  # of all objects together; each unknown field is an error of its own
TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|(?P<open>[\[{])|(?P<close>[\]}])|(?P<field>:)|(?P<next>,)', re.DOTALL)


def check(body: bytes) -> None:
    """Check how much a body holds.

    Raises:
        ValueError: naming the bound.
    """
    if len(body) <= MAX_FIELDS and body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return  # too short to pass a bound
    depth = fields = 0
    values = 1
    for token in TOKEN.finditer(body):
        kind = token.lastgroup
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        fields += kind == "field"
        values += kind in {"open", "next"}
        if depth > MAX_DEPTH:
            raise ValueError(f"the body is nested too deeply; at most {MAX_DEPTH} levels")
        if values > MAX_VALUES:
            raise ValueError(f"the body has too many values; at most {MAX_VALUES}")
        if fields > MAX_FIELDS:
            raise ValueError(f"the body has too many fields; at most {MAX_FIELDS}")
