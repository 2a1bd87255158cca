"""`/schedule`: the entries, one entry with its fires, why one ran or not, its actions, and a year ahead."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations import entries
from console.operations import schedule as operations
from console.operations.entries import EntryState
from console.operations.operator import Operator
from console.operations.why import explain, moment
from console.web.actions import SOURCE, action, done, operator_of
from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.clock import parse_duration
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import job_summaries, processes
from pocketwatch.storage.database import clock_time
from publishers.simulation import simulate

EMPTY = {"reason": "", "for": ""}
YEAR = 365  # days


async def schedule(request: Request) -> Response:
    resources = resources_of(request)
    async with resources.read() as connection:
        now = await clock_time(connection)
        found = await entries.read(connection, file=resources.settings.running.schedule, now=now)
        known = await processes.known(connection)
    publishers = [each for each in known if each["schedule_hash"] and each["state"] not in processes.ENDED]
    return render(request, "web/schedule/list.html", schedule=found, publishers=publishers, now=now)


async def entry(request: Request) -> Response:
    return await _show(request)


async def _show(
    request: Request,
    *,
    form: FormData | Mapping[str, str] = EMPTY,
    errors: Mapping[str, str] = EMPTY,
    status_code: int = 200,
) -> Response:
    state = await _state(request)
    arguments = state.entry.message.payload()
    values = {name: str(form.get(name, "")) for name in EMPTY}
    if state.pause is not None and not values["reason"]:
        values["reason"] = state.pause.reason
    return render(
        request,
        "web/schedule/entry.html",
        status_code=status_code,
        here=f"/schedule/{state.name}",  # its parts are refreshed from there, also when a form was refused
        state=state,
        arguments=arguments,
        form=values,
        errors={**EMPTY, **errors},
    )


async def why(request: Request) -> Response:
    state, resources, text = await _state(request), resources_of(request), request.query_params.get("at", "").strip()
    steps, error = [], ""
    async with resources.read() as connection:
        now = await clock_time(connection)
        try:
            at = moment(text, state.entry, now) if text else None
            steps = await explain(connection, state.entry, at=at, now=now)
        except PocketwatchError as problem:
            error = str(problem)
    status_code = 422 if error else 200
    return render(
        request, "web/schedule/why.html", status_code=status_code, state=state, steps=steps, at=text, error=error
    )


async def simulation(request: Request) -> Response:
    given = request.query_params.get("days", "")
    days = min(max(int(given), 1), YEAR) if given.isdecimal() else YEAR
    resources = resources_of(request)
    async with resources.read() as connection:
        now = await clock_time(connection)
        found = await entries.read(connection, file=resources.settings.running.schedule, now=now)
        planned = [each.entry for each in found.entries]
        summaries = await job_summaries.of_jobs(connection, sorted({each.job for each in planned}))
    simulated = await asyncio.to_thread(simulate, planned, after=now, until=now + timedelta(days=days))
    dense = simulated.denser_than({job: summary.p95_duration for job, summary in summaries.items()})
    return render(request, "web/schedule/simulate.html", simulated=simulated, dense=dense, days=days)


async def _state(request: Request) -> EntryState:
    """Return the entry of the path.

    Raises:
        HTTPException: when there is none (404).
    """
    resources, name = resources_of(request), request.path_params["entry"]
    async with resources.read() as connection:
        now = await clock_time(connection)
        file = resources.settings.running.schedule
        state = (await entries.read(connection, file=file, now=now, names=[name])).entry(name)
    if state is None:
        raise HTTPException(404, f'entry "{name}" is not in the schedule that publishers run')
    return state


@action
async def pause(request: Request, form: FormData, actor: str) -> Response:
    state = await _state(request)
    reason, lasts, errors = str(form.get("reason", "")).strip(), str(form.get("for", "")).strip(), {}
    if not reason:
        errors["reason"] = "a reason is required"
    try:
        span = parse_duration(lasts) if lasts else None
    except ValueError as error:
        errors["for"] = str(error)
    if errors:
        return await _show(request, form=form, errors=errors, status_code=422)
    database, operator = resources_of(request).database, Operator(actor, SOURCE, reason)
    before = await operations.pause(database, state.name, lasts=span, operator=operator)
    until = f" for {lasts}" if lasts else " until it is resumed"
    text = (
        f"{state.name} is paused{until}."
        if before is None
        else f"The pause of {state.name} has been changed; it is paused{until}."
    )
    return done(request, text, to=f"/schedule/{state.name}")


@action
async def resume(request: Request, form: FormData, actor: str) -> Response:
    state = await _state(request)
    await operations.resume(resources_of(request).database, state.name, operator=operator_of(form, actor))
    return done(request, f"{state.name} fires again.", to=f"/schedule/{state.name}")


@action
async def run_now(request: Request, form: FormData, actor: str) -> Response:
    state, resources = await _state(request), resources_of(request)
    message_id = await operations.run_entry(
        resources.publisher, resources.database, state.entry, operator=operator_of(form, actor)
    )
    return done(request, f"{state.name} was published as {message_id}.", to=f"/schedule/{state.name}")


ROUTES: list[BaseRoute] = [
    Route("/schedule", schedule),
    Route("/schedule/simulate", simulation),
    Route("/schedule/{entry}", entry),
    Route("/schedule/{entry}/why", why),
    Route("/schedule/{entry}/pause", pause, methods=["POST"]),
    Route("/schedule/{entry}/resume", resume, methods=["POST"]),
    Route("/schedule/{entry}/run", run_now, methods=["POST"]),
]
