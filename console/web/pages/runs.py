"""`/runs`: the run log; `/runs/<id>`: one run, with all that is known about it."""

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations import runs as operations
from console.operations.operator import Operator
from console.web import parameters
from console.web.actions import SOURCE, action, done
from console.web.rendering import render
from console.web.resources import resources_of
from consumers.app import consumers_of
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import run_history, run_search
from pocketwatch.storage.run_search import RunFilter
from pocketwatch.storage.tables.suite import STATUSES, TRIGGERS
from pocketwatch.worker.retry_policy import MAX_ATTEMPTS

PAGE_SIZE = 50
MAX_CHAIN = 100  # runs
EXACT = ("job", "entry", "status", "trigger")
FILTERS = (*EXACT, "id", "text", "since", "until")


async def runs(request: Request) -> Response:
    chosen = {name: parameters.text(request.query_params, name) for name in FILTERS}
    zone = ZoneInfo(resources_of(request).settings.site.timezone)
    which, errors = _filter(chosen, zone, before_id=parameters.row_id(request.query_params.get("before", "")))
    async with resources_of(request).read() as connection:
        found = await run_search.find(connection, which)
        entries = await run_history.entries(connection)
    return render(
        request,
        "web/runs/list.html",
        rows=found.rows,
        following=found.next_before_id,
        is_bounded=found.is_bounded,
        chosen=chosen,
        errors=errors,
        jobs=sorted(each.queue.name for each in consumers_of()),
        entries=entries,
        statuses=STATUSES,
        triggers=TRIGGERS,
    )


def _filter(chosen: Mapping[str, str], zone: ZoneInfo, *, before_id: int | None) -> tuple[RunFilter, dict[str, str]]:
    """Return what is asked for, and what of it cannot be read."""
    errors, times = dict[str, str](), dict[str, Any]()
    for name in ("since", "until"):
        try:
            times[name] = parameters.moment(chosen[name], zone)
        except ValueError:
            errors[name] = "not a time; use 2026-01-31 or 2026-01-31 02:00"
    given: dict[str, Any] = {name: chosen[name] or None for name in (*EXACT, "text")}
    which = RunFilter(**given, **times, message_id=chosen["id"] or None, before_id=before_id, limit=PAGE_SIZE)
    return which, errors


async def run(request: Request) -> Response:
    async with resources_of(request).read() as connection:
        found = await _found(connection, request)
        attempts = await run_history.attempts(connection, found["job"], found["message_id"])
        chain = await run_search.chain(connection, _chain_of(found), limit=MAX_CHAIN)
        process = await run_history.process_of(connection, found["worker"], found["started_at"])
    schema = operations.schema_of(found["job"], resources_of(request).settings)
    return render(
        request,
        "web/runs/one.html",
        run=found,
        attempts=attempts,
        max_attempts=MAX_ATTEMPTS,
        chain=[(each, _depth(each, chain)) for each in {row["message_id"]: row for row in chain}.values()],
        process=process,
        runs_again=None if schema is None else schema.routing_key,
    )


async def stop(request: Request, form: FormData, actor: str) -> Response:
    reason = parameters.text(form, "reason")
    if not reason:
        raise PocketwatchError("a reason is required; it is shown with the run")
    resources = resources_of(request)
    async with resources.read() as connection:
        found = await _found(connection, request)
    await operations.stop(resources.database, found, operator=Operator(actor, SOURCE, reason))
    return done(request, "Asked to stop; the run ends after its current page of rows.", to=f"/runs/{found['id']}")


async def _found(connection: Any, request: Request) -> run_history.Row:
    name = request.path_params["id"]
    if (found := await run_history.find(connection, name)) is None:
        raise HTTPException(404, f'no run has the id "{name}"; it has not started, or its row was purged')
    return found


def _chain_of(found: Mapping[str, Any]) -> str:
    return str(found["correlation_id"] or found["message_id"])


def _depth(row: Mapping[str, Any], chain: Sequence[Mapping[str, Any]]) -> int:
    """Return how many messages of the chain have led to this one: ids grow with each."""
    ids = {str(each["message_id"]) for each in chain} - {row["message_id"]}
    causes = sum(str(row["message_id"]).startswith(f"{each}.") for each in ids)
    return causes or int(row["message_id"] != _chain_of(row))


ROUTES: list[BaseRoute] = [
    Route("/runs", runs),
    Route("/runs/{id:path}/stop", action(stop), methods=["POST"]),
    Route("/runs/{id:path}", run),
]
