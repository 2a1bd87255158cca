"""`/moderation`: decisions about ads and why they were made, the history of an ad, and the replay of a rule set."""

import asyncio
from datetime import timedelta
from typing import get_args

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web.actions import action
from console.web.rendering import render
from console.web.resources import resources_of
from consumers.mail import log_search
from consumers.mail.log_search import LogFilter
from consumers.moderation.review import decision_search, queries, replay
from consumers.moderation.review.decision_search import DecisionFilter
from consumers.moderation.review.decisions import Action
from consumers.moderation.rules import loading
from consumers.moderation.rules.engine import RuleSet
from pocketwatch.clock import parse_duration, utc_now
from pocketwatch.errors import PocketwatchError, SettingsError
from schemas.types import LARGEST_INT

PAGE_SIZE = 50
PERIODS = (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("all", "any time"))
DEFAULT_PERIOD = "7d"
ACTIONS: tuple[str, ...] = get_args(Action)
ACTORS = ("rules", "classifier", "bypass", "pocketwatch")
MAX_EMAILS = 20  # about one ad
LONGEST_RULES = 500_000  # characters
REPLAYED = ("200", "1000", "5000")  # ads, the newest
REPLAYED_SINCE = (("7d", "7 days"), ("30d", "30 days"), ("90d", "90 days"))


async def moderation(request: Request) -> Response:
    values = request.query_params
    chosen = {name: values.get(name, "").strip() for name in ("action", "actor", "rule", "ad", "since")}
    chosen["action"] = chosen["action"] if chosen["action"] in ACTIONS else ""
    chosen["since"] = chosen["since"] if chosen["since"] in dict(PERIODS) else DEFAULT_PERIOD
    wanted = DecisionFilter(
        ad_id=_id(chosen["ad"]),
        actor=chosen["actor"] or None,
        rule=chosen["rule"] or None,
        since=None if chosen["since"] == "all" else utc_now() - parse_duration(chosen["since"]),
    )
    only = DecisionFilter(**{**vars(wanted), "action": chosen["action"] or None})
    async with resources_of(request).read() as connection:
        before = _id(values.get("before", ""))
        rows = await decision_search.newest(connection, only, limit=PAGE_SIZE + 1, before_id=before)
        counts = await decision_search.counts(connection, wanted)
    return render(
        request,
        "web/moderation/list.html",
        rows=rows[:PAGE_SIZE],
        following=rows[PAGE_SIZE - 1]["id"] if len(rows) > PAGE_SIZE else None,
        counts=counts,
        max_counted=decision_search.MAX_COUNTED,
        chosen=chosen,
        actions=ACTIONS,
        actors=ACTORS,
        periods=PERIODS,
    )


async def ad(request: Request) -> Response:
    id_ = min(int(request.path_params["id"]), LARGEST_INT)
    async with resources_of(request).read() as connection:
        decisions = await queries.decisions(connection, id_)
        notifications = await decision_search.notifications_of(connection, id_)
        emails = await log_search.newest(connection, LogFilter(ad_id=id_), limit=MAX_EMAILS)
    if not (decisions or notifications or emails):
        raise HTTPException(404, f"Nothing is recorded about ad {id_}.")
    return render(
        request,
        "web/moderation/ad.html",
        id=id_,
        decisions=decisions,
        notifications=notifications,
        emails=emails,
        has_more_emails=len(emails) == MAX_EMAILS,
    )


async def replay_form(request: Request) -> Response:
    path = resources_of(request).settings.moderation.rules or loading.DEFAULT
    try:
        text, error = path.read_text(encoding="utf-8"), None
    except (OSError, UnicodeDecodeError) as problem:
        text, error = "", f"The current rules cannot be read: {problem}"
    return _replay_page(request, text=text, error=error)


@action
async def replay_rules(request: Request, form: FormData, actor: str) -> Response:  # noqa: ARG001  nothing is changed
    """Evaluate the rules of the form on the newest ads; nothing is written."""
    text, size, since = (str(form.get(name, "")) for name in ("rules", "limit", "since"))
    text = text.replace("\r\n", "\n")  # as forms send lines
    size, since = size if size in REPLAYED else REPLAYED[0], since if since in dict(REPLAYED_SINCE) else "30d"
    if len(text) > LONGEST_RULES:
        return _replay_page(request, text="", error=f"Longer than {LONGEST_RULES} characters.", status_code=422)
    try:
        rules = await asyncio.to_thread(RuleSet.parse, text)
    except SettingsError as problem:
        return _replay_page(request, text=text, error=str(problem), size=size, since=since, status_code=422)
    result = await _replay(request, rules, since=parse_duration(since), limit=int(size))
    return _replay_page(request, text=text, size=size, since=since, result=result.as_data())


_RUNNING = asyncio.Lock()


async def _replay(request: Request, rules: RuleSet, *, since: timedelta, limit: int) -> replay.Replay:
    if _RUNNING.locked():
        raise PocketwatchError("another replay is running; try again when it has ended")
    async with _RUNNING:
        return await replay.replay(resources_of(request).database, rules, since=since, limit=limit)


def _replay_page(
    request: Request,
    *,
    text: str,
    error: str | None = None,
    size: str = REPLAYED[0],
    since: str = "30d",
    result: dict[str, object] | None = None,
    status_code: int = 200,
) -> Response:
    return render(
        request,
        "web/moderation/replay.html",
        status_code=status_code,
        text=text,
        error=error,
        size=size,
        since=since,
        sizes=REPLAYED,
        periods=REPLAYED_SINCE,
        result=result,
        max_samples=replay.MAX_SAMPLES,
    )


def _id(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and int(text) <= LARGEST_INT else None


ROUTES: list[BaseRoute] = [
    Route("/moderation", moderation),
    Route("/moderation/ads/{id:int}", ad),
    Route("/moderation/replay", replay_form),
    Route("/moderation/replay", replay_rules, methods=["POST"]),
]
