"""The table of results, one row for each part and fault: python -m tests.faults.matrix.table RESULTS.jsonl"""

import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = ("faults", "asked", "lost", "doubled", "recovered", "unexpected", "unconfirmed")
HEAD = ("part", "fault", "boundaries", "faults", "messages", "lost", "doubled", "recovered", "unexpected", "sent twice")


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what identifies the cell of a result."""
    return (row["part"], *row["boundaries"], row["target"], row["fault"])


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Add up the cells of a part and a fault, in Markdown."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["part"], f"{row['fault']} {row['target']}"].append(row)
    lines = [HEAD, tuple("---" if name in {"part", "fault"} else "---:" for name in HEAD)]
    for (part, fault), cells in groups.items():
        totals = {name: sum(cell[name] for cell in cells) for name in COLUMNS}
        totals["unexpected"] += sum(len(cell["problems"]) for cell in cells)
        lines.append(
            (
                part,
                fault,
                str(sum(len(cell["boundaries"]) for cell in cells)),
                *(f"{totals[name]:,}" for name in COLUMNS),
            )
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    latest = {}  # of each cell
    for line in Path(sys.argv[1]).read_text().splitlines():
        row = json.loads(line)
        latest[key(row)] = row
    sys.stdout.write(table(list(latest.values())) + "\n")
