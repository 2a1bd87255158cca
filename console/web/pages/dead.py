"""`/dead`: dead letters by queue and reason; one with a form to edit it; requeueing and dropping."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from loguru import logger
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from console.operations import bodies, forms
from console.operations import dead_letters as operations
from console.operations.bodies import InvalidBody
from console.operations.dead_letters import Changed, Selection
from console.operations.operator import Operator
from console.web import parameters
from console.web.actions import action, done, failed, operator_of
from console.web.rendering import render
from console.web.resources import Resources, resources_of
from pocketwatch.broker.dead_letters import DeadLetter
from pocketwatch.broker.held import MAX_HELD
from pocketwatch.broker.pace import Pace
from pocketwatch.errors import InvalidMessage, PocketwatchError
from pocketwatch.settings import Settings
from pocketwatch.worker.consumer import JsonDecoder
from schemas import envelope as metadata

SHOWN = 50  # of each queue
MAX_JOBS = 20  # that are remembered
EDITABLE_HEADERS = (metadata.TRIGGER, metadata.ENTRY, metadata.DUE_AT)
RAW = "body"  # the field of a body that is not a JSON object
FAILED = "web.requeue_failed"


@dataclass
class Requeueing:
    """Requeueing that goes on after its form was answered."""

    total: int
    moved: int = 0
    error: str | None = None
    is_over: bool = False


@dataclass
class Requeueings:
    """Those of this process, the newest last."""

    by_id: dict[str, Requeueing] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, total: int) -> tuple[str, Requeueing]:
        while len(self.by_id) >= MAX_JOBS:
            self.by_id.pop(next(iter(self.by_id)))
        name, made = uuid4().hex[:12], Requeueing(total)
        self.by_id[name] = made
        return name, made


REQUEUEINGS = Requeueings()


async def dead(request: Request) -> Response:
    resources = resources_of(request)
    chosen = {name: parameters.text(request.query_params, name) for name in ("queue", "reason", "id")}
    selection = _selection(resources.settings, chosen)
    looks = await resources.dead_letters.look(resources.publisher, selection, limit=SHOWN)
    return render(
        request,
        "web/dead/list.html",
        looks=looks,
        chosen=chosen,
        total=sum(group.count for look in looks for group in look.groups.values()),
        queues=[queue.name for queue in operations.queues_named(resources.settings)],
        shown=SHOWN,
        most=MAX_HELD,
    )


def _selection(settings: Settings, chosen: Mapping[str, str]) -> Selection:
    ids = (chosen["id"],) if chosen.get("id") else None
    return Selection(operations.queues_named(settings, chosen.get("queue") or None), ids, chosen.get("reason") or None)


async def one(request: Request) -> Response:
    return await _page(request, await _found(request, read=resources_of(request).dead_letters.look))


async def _found(request: Request, *, read: operations.Read = operations.look) -> DeadLetter:
    resources = resources_of(request)
    try:
        queues = operations.queues_named(resources.settings, request.path_params["queue"])
        found = await operations.find(resources.publisher, request.path_params["id"], queues, read=read)
    except PocketwatchError as error:
        if "does not exist" not in str(error):
            raise
        raise HTTPException(404, f"{error}") from error
    return found[0]


async def _page(
    request: Request,
    found: DeadLetter,
    *,
    values: Mapping[str, Any] | str | None = None,
    headers: Mapping[str, str] | None = None,
    error: InvalidBody | None = None,
) -> Response:
    """Show a dead letter with the form for its body, with what was sent and what is wrong with it after an attempt."""
    settings = resources_of(request).settings
    try:
        schema = _schema(found, settings)
    except InvalidMessage:  # of a queue of another version
        schema = None
    body, problem = _body(found)
    values = body if values is None else values
    if error is None and isinstance(values, dict):
        error = _problem(found, settings)
    form, is_refused = None, error is not None and headers is not None
    if schema is not None and isinstance(values, Mapping):
        form = forms.of_values(schema, values, error.fields if error else {})
    shown = headers or {name: str(found.headers[name]) for name in EDITABLE_HEADERS if name in found.headers}
    return render(
        request,
        "web/dead/one.html",
        status_code=422 if is_refused else 200,
        is_refused=is_refused,
        found=found,
        form=form,
        raw=values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, indent=2),
        error=error,
        problem=problem,
        headers={name: shown.get(name, "") for name in EDITABLE_HEADERS},
    )


def _schema(found: DeadLetter, settings: Settings) -> Any:
    """Return the schema of the form; None where the body is of a foreign format, which is edited as text."""
    consumer = bodies.consumer_of(found.queue, settings)
    return consumer.message_type if isinstance(consumer.decoder, JsonDecoder) else None


def _body(found: DeadLetter) -> tuple[dict[str, Any] | str, str | None]:
    """Return the body as an object, or else as text; and why it cannot be edited."""
    try:
        text = operations.editable_body(found)
    except PocketwatchError as error:
        return "", str(error)
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text, None
    return (content, None) if isinstance(content, dict) else (text, None)


def _problem(found: DeadLetter, settings: Settings) -> InvalidBody | None:
    """Return what its consumer would refuse now."""
    draft = bodies.Draft(found.body.encode(), found.headers, found.message_id)
    try:
        bodies.check(bodies.consumer_of(found.queue, settings), draft, settings)
    except InvalidBody as error:
        return error
    except InvalidMessage:
        return None
    return None


async def edit(request: Request, form: FormData, actor: str) -> Response:
    """Requeue one with the body and headers of the form, unless its consumer would refuse them."""
    resources, found = resources_of(request), await _found(request)
    sent = parameters.strings(form)
    values: dict[str, Any] | str
    if RAW in sent:
        values = sent[RAW]
        body = values.encode()
    else:
        values = forms.read(_schema(found, resources.settings), sent)
        body = json.dumps(values, ensure_ascii=False).encode()
    headers = {name: sent.get(name, "").strip() for name in EDITABLE_HEADERS}
    changed = {name: value or None for name, value in headers.items() if value or name in found.headers}
    operator = operator_of(form, actor)
    try:
        await operations.edit(
            resources.publisher,
            resources.database,
            found,
            resources.settings,
            operator=operator,
            body=body,
            headers=changed,
        )
    except InvalidBody as error:
        return await _page(request, found, values=values, headers=headers, error=error)
    resources.dead_letters.forget()
    return done(request, f"Requeued {found.message_id} to {found.queue}.", to="/dead")


async def requeue(request: Request, form: FormData, actor: str) -> Response:
    """Requeue the selected ones, or all that match the filter, as fast as the rate allows."""
    resources, operator = resources_of(request), operator_of(form, actor)
    selection = _selected(resources.settings, form)
    rate = parameters.text(form, "rate")
    pace = Pace.parse(f"{rate}/s" if rate else None)
    if selection.ids is not None and pace.rate is None:
        changed = await operations.requeue(resources.publisher, resources.database, selection, operator=operator)
        return _answer(request, "requeued", changed)
    looks = await operations.look(resources.publisher, selection, limit=1)
    name, progress = REQUEUEINGS.add(sum(group.count for look in looks for group in look.groups.values()))
    task = asyncio.create_task(_requeue(resources, selection, operator, pace, progress))
    REQUEUEINGS.tasks.add(task)
    task.add_done_callback(REQUEUEINGS.tasks.discard)
    return RedirectResponse(f"/dead/requeueing/{name}", status_code=303)


async def _requeue(
    resources: Resources, selection: Selection, operator: Operator, pace: Pace, progress: Requeueing
) -> None:
    def count(_: DeadLetter) -> None:
        progress.moved += 1

    try:
        await operations.requeue(
            resources.publisher, resources.database, selection, operator=operator, pace=pace, on_moved=count
        )
    except PocketwatchError as error:
        progress.error = str(error)
    except Exception as error:  # noqa: BLE001  no page waits for this task; one shows its error
        progress.error = type(error).__name__
        logger.exception(FAILED)
    finally:
        resources.dead_letters.forget()
        progress.is_over = True


async def requeueing(request: Request) -> Response:
    if (progress := REQUEUEINGS.by_id.get(request.path_params["id"])) is None:
        raise HTTPException(404, "this requeueing is unknown; the console may have been restarted")
    return render(request, "web/dead/requeueing.html", progress=progress)


async def drop(request: Request, form: FormData, actor: str) -> Response:
    """Ask with how many of which queues; drop them when that was confirmed."""
    resources = resources_of(request)
    selection = _selected(resources.settings, form)
    if parameters.text(form, "confirmed") != "yes":
        looks = await operations.look(resources.publisher, selection, limit=1)
        counts = {look.queue: sum(group.count for group in look.groups.values()) for look in looks}
        if not counts:
            return failed(request, "no dead letter matches any longer", to="/dead")
        fields = [(name, value) for name, value in form.multi_items() if isinstance(value, str)]
        kept = [(name, value) for name, value in fields if name not in {"back", "csrf_token", "why"}]
        why, total = parameters.text(form, "why"), sum(counts.values())
        return render(request, "web/dead/drop.html", counts=counts, total=total, fields=kept, why=why)
    changed = await operations.drop(
        resources.publisher, resources.database, selection, operator=operator_of(form, actor)
    )
    return _answer(request, "dropped", changed)


def _selected(settings: Settings, form: FormData) -> Selection:
    """Return those that are ticked (`queue/id`), or all that the filter of the page matches."""
    if parameters.text(form, "which") == "all":
        return _selection(settings, {name: parameters.text(form, name) for name in ("queue", "reason", "id")})
    ticked = [each.partition("/") for each in parameters.texts(form, "dead")]
    if not ticked:
        raise PocketwatchError("no dead letter is selected; select some, or choose all that match")
    names = {queue for queue, _, _ in ticked}
    queues = tuple(queue for queue in operations.queues_named(settings) if queue.name in names)
    return Selection(queues, tuple(dict.fromkeys(message_id for _, _, message_id in ticked)))


def _answer(request: Request, verb: str, changed: Changed) -> Response:
    resources_of(request).dead_letters.forget()
    count = len(changed.dead_letters)
    text = f"{count} {verb}"
    if changed.missing:
        text += f"; no longer there: {', '.join(changed.missing[:5])}"
    if looping := [each for each in changed.dead_letters if each.is_looping and verb == "requeued"]:
        text += f"; {len(looping)} of them had been requeued several times before: find the cause first"
    return done(request, text, to="/dead") if count else failed(request, text, to="/dead")


ROUTES: list[BaseRoute] = [
    Route("/dead", dead),
    Route("/dead/requeue", action(requeue), methods=["POST"]),
    Route("/dead/drop", action(drop), methods=["POST"]),
    Route("/dead/requeueing/{id}", requeueing),
    Route("/dead/{queue}/{id:path}", one),
    Route("/dead/{queue}/{id:path}", action(edit), methods=["POST"]),
]
