"""`/trigger`: jobs and events; `/trigger/<job>`: a form for one. Those that delete start with a dry run."""

import json
from typing import Any
from urllib.parse import quote, urlencode

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from console.operations import forms, trigger
from console.operations.bodies import InvalidBody
from console.web import parameters
from console.web.actions import action, done, operator_of
from console.web.rendering import render
from console.web.resources import Resources, resources_of
from pocketwatch.broker.declare import queue_info
from pocketwatch.broker.topology import TOPOLOGY
from pocketwatch.errors import InvalidMessage, PocketwatchError, ServerUnreachable
from pocketwatch.storage import run_history
from schemas.message import Message


async def jobs(request: Request) -> Response:
    ticks, events = forms.triggerable()
    return render(request, "web/trigger/list.html", jobs=ticks, events=events, has_dry_run=forms.has_dry_run)


async def job(request: Request) -> Response:
    """Show the form, with the arguments of a run where one is named."""
    schema = _schema(request)
    values: dict[str, Any] | None = None
    if name := request.query_params.get("run"):
        async with resources_of(request).read() as connection:
            run = await run_history.find(connection, name)
        values = None if run is None else run["payload"]
    return await _form(request, schema, forms.of_values(schema, values))


async def _form(request: Request, schema: type[Message], form: forms.Form, *, status_code: int = 200) -> Response:
    return render(
        request,
        "web/trigger/form.html",
        status_code=status_code,
        key=schema.routing_key,
        about=schema.__doc__ or "",
        form=form,
        has_dry_run=forms.has_dry_run(schema),
        without_consumer=await _without_consumer(resources_of(request), schema),
    )


async def _without_consumer(resources: Resources, schema: type[Message]) -> list[str]:
    """Return the queues of a message that have no consumer, as far as the broker says."""
    try:
        found = {
            queue.name: await queue_info(resources.publisher.connection, queue.name)
            for queue in TOPOLOGY.route(schema.exchange, schema.routing_key)
        }
    except ServerUnreachable:
        return []
    return [name for name, info in found.items() if info is None or not info[1]]


async def check(request: Request, form: FormData, actor: str) -> Response:
    """Check the arguments; publish the dry run of what destroys, ask to confirm the rest."""
    schema, resources = _schema(request), resources_of(request)
    arguments = forms.read(schema, parameters.strings(form))
    try:
        message = forms.validate(schema, arguments)
    except InvalidBody as error:
        return await _form(request, schema, forms.of_values(schema, arguments, error.fields), status_code=422)
    if not forms.has_dry_run(schema):
        return render(request, "web/trigger/confirm.html", key=schema.routing_key, arguments=arguments, run=None)
    is_dry_run = bool(getattr(message, forms.DRY_RUN))
    counted = forms.validate(schema, arguments | {forms.DRY_RUN: True})
    operator = operator_of(form, actor)
    message_id = await trigger.publish(resources.publisher, resources.database, counted, operator=operator)
    if is_dry_run:
        return done(request, f"Published as a dry run: {message_id}", to=_run_of(message_id))
    query = urlencode({"dry_run": message_id, "arguments": json.dumps(arguments, ensure_ascii=False)})
    return RedirectResponse(f"/trigger/{quote(schema.routing_key)}/confirm?{query}", status_code=303)


async def confirm(request: Request) -> Response:
    """Show what the dry run has counted, and ask whether to do it."""
    schema, arguments = _schema(request), _arguments(request.query_params.get("arguments", "{}"))
    dry_run = request.query_params.get("dry_run", "")
    async with resources_of(request).read() as connection:
        run = await run_history.find(connection, dry_run)
    return render(
        request,
        "web/trigger/confirm.html",
        key=schema.routing_key,
        arguments=arguments,
        dry_run=dry_run,
        run=run or {"status": "waiting", "statistics": {}, "progress": None, "error": None, "id": dry_run},
        is_counted=run is not None and run["status"] in trigger.FINISHED,
    )


async def publish(request: Request, form: FormData, actor: str) -> Response:
    schema, resources = _schema(request), resources_of(request)
    arguments = _arguments(parameters.text(form, "arguments"))
    operator = operator_of(form, actor)
    if forms.has_dry_run(schema):
        message_id = await trigger.publish_after_dry_run(
            resources.publisher,
            resources.database,
            schema.routing_key,
            arguments,
            dry_run=parameters.text(form, "dry_run"),
            operator=operator,
        )
    else:
        message = forms.validate(schema, arguments)
        message_id = await trigger.publish(resources.publisher, resources.database, message, operator=operator)
    return done(request, f"Published as {message_id}", to=_run_of(message_id))


async def published(request: Request) -> Response:
    """Show the run of a message, or wait until a consumer has begun it."""
    message_id = request.path_params["id"]
    async with resources_of(request).read() as connection:
        run = await run_history.find(connection, message_id)
    if run is not None:
        return RedirectResponse(f"/runs/{run['id']}", status_code=303)
    return render(request, "web/trigger/published.html", message_id=message_id)


def _run_of(message_id: str) -> str:
    return f"/published/{quote(message_id, safe='')}"


def _schema(request: Request) -> type[Message]:
    try:
        return forms.schema_for(request.path_params["job"])
    except InvalidMessage as error:
        raise HTTPException(404, str(error)) from error


def _arguments(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PocketwatchError("the arguments differ from those of the form; start again")
    return found


ROUTES: list[BaseRoute] = [
    Route("/trigger", jobs),
    Route("/trigger/{job}", job),
    Route("/trigger/{job}", action(check), methods=["POST"]),
    Route("/trigger/{job}/confirm", confirm),
    Route("/trigger/{job}/publish", action(publish), methods=["POST"]),
    Route("/published/{id:path}", published),
]
