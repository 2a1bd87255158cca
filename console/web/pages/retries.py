"""`/retries`: messages that wait for another attempt, and how to let them come at once."""

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.operations.retries import retry_now
from console.web import parameters
from console.web.actions import action, done, failed, operator_of
from console.web.rendering import render
from console.web.resources import resources_of
from pocketwatch.errors import PocketwatchError
from pocketwatch.storage import run_history

SHOWN = 200


async def retries(request: Request) -> Response:
    chosen = {name: parameters.text(request.query_params, name) for name in ("job", "id")}
    async with resources_of(request).read() as connection:
        rows = await run_history.waiting(
            connection, limit=SHOWN, job=chosen["job"] or None, message_id=chosen["id"] or None
        )
        counts = await run_history.count_waiting(connection)
    return render(request, "web/retries.html", rows=rows, counts=counts, chosen=chosen, shown=SHOWN)


async def now(request: Request, form: FormData, actor: str) -> Response:
    """Retry the ticked ones, or all of a job."""
    resources = resources_of(request)
    job = parameters.text(form, "all_of") or None
    ids = None if job else parameters.texts(form, "message")
    if ids == []:
        raise PocketwatchError("no message is selected; select some, or choose all of a job")
    moved, missing = await retry_now(
        resources.publisher, resources.database, operator=operator_of(form, actor), ids=ids, job=job
    )
    text = f"{len(moved)} retried now"
    if missing:
        text += f"; no longer waiting: {', '.join(missing[:5])}"
    return done(request, text, to="/retries") if moved else failed(request, text, to="/retries")


ROUTES: list[BaseRoute] = [Route("/retries", retries), Route("/retries/now", action(now), methods=["POST"])]
