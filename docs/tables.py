"""The tables of docs/jobs.md that follow from the code: entries, payloads, retention and queues.

python docs/tables.py           write them
python docs/tables.py --check   exit with 1 if they are not current
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from consumers.maintenance.retention import RULES
from pocketwatch.broker.topology import CELERY, TOPOLOGY
from publishers.schedule import DEFAULT, load
from schemas.catalogue import TICK_TYPES

PAGE = Path(__file__).with_name("jobs.md")
BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def entries() -> Iterable[Sequence[str]]:
    yield ("entry", "when", "job")
    for entry in load(DEFAULT).entries:
        payload = entry.message.payload()
        arguments = f" `{json.dumps(payload)}`" if payload else ""
        when = f"`{entry.cron}`" if entry.enabled else f"disabled, else `{entry.cron}`"
        yield (f"`{entry.name}`", when, f"`{entry.message.routing_key}`{arguments}")


def payloads() -> Iterable[Sequence[str]]:
    yield ("job", "field", "default", "accepts", "meaning")
    for tick in sorted(TICK_TYPES, key=lambda tick: tick.routing_key):
        job = f"`{tick.routing_key}`"
        fields: dict[str, Any] = tick.model_json_schema().get("properties", {})
        for name, field in fields.items():
            default = f"`{json.dumps(field['default'])}`"
            yield (job, f"`{name}`", default, _accepted(field), _description(field))
            job = ""
        if not fields:
            yield (job, "none", "", "", "")


def queues() -> Iterable[Sequence[str]]:
    yield ("queue", "consumed by", "single active consumer", "prefetch")
    for queue in sorted(TOPOLOGY.queues, key=lambda queue: queue.name):
        group = queue.name.partition(".")[0]
        process = f"`pocketwatch consume {group}`"
        yield (f"`{queue.name}`", process, "yes" if queue.single_active else "no", str(queue.prefetch))
    name = f"`{CELERY.name}`, or the value of `POCKETWATCH_CELERY_QUEUE`; declared by Celery"
    yield (name, "`pocketwatch consume bridge`", "no", str(CELERY.prefetch))


def retention() -> Iterable[Sequence[str]]:
    yield ("table", "days at least", "`retention_days`", "why")
    for rule in RULES:
        yield (f"`{rule.table}`", str(rule.minimum.days), "yes" if rule.adjustable else "no", rule.why)


def _accepted(field: dict[str, Any]) -> str:
    kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
    return "; ".join(_kind(kind) for kind in kinds)


def _kind(kind: dict[str, Any]) -> str:
    if kind["type"] == "array":
        return f"list of {_kind(kind['items'])}"
    if "enum" in kind:
        return ", ".join(f"`{value}`" for value in kind["enum"])
    if kind["type"] in ("integer", "number"):
        least = f"{kind['minimum']}" if "minimum" in kind else f"above {kind['exclusiveMinimum']}"
        return f"{least} to {kind['maximum']}" if "maximum" in kind else f"{least} or more"
    return "`true`, `false`" if kind["type"] == "boolean" else str(kind.get("format", "text"))


def _description(field: dict[str, Any]) -> str:
    kinds = [field, *field.get("anyOf", [])]
    return next((kind["description"] for kind in kinds if "description" in kind), "")


def markdown(rows: Iterable[Sequence[str]]) -> str:
    header, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *body))


TABLES = {"entries": entries, "payloads": payloads, "retention": retention, "queues": queues}


def main() -> int:
    current = PAGE.read_text()
    wanted = BLOCK.sub(lambda block: f"{block[1]}{markdown(TABLES[block[2]]())}{block[3]}", current)
    if "--check" in sys.argv:
        return int(wanted != current)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
