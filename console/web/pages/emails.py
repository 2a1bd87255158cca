"""`/emails`: what became of each email, sending it again, suppressed addresses, templates, and caught emails."""

from starlette.datastructures import FormData, QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from console.web.actions import SOURCE, action, done
from console.web.email_bodies import body_response, caught_folder, preview_of, rendered
from console.web.rendering import render
from console.web.resources import resources_of
from consumers.mail import log_search, operations, suppressions
from consumers.mail.compose.samples import SAMPLES
from consumers.mail.log_search import SHOWN_STATES, UNDELIVERED, LogFilter
from pocketwatch.clock import parse_duration, utc_now
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack.native.caught_emails import CaughtEmail, caught_email, caught_emails
from schemas.emails import EMAILS
from schemas.locale import LOCALES
from schemas.types import LARGEST_INT

PAGE_SIZE = 50
MAX_CAUGHT = 200  # emails of the catcher
PERIODS = (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("all", "any time"))
DEFAULT_PERIOD = "7d"
NOT_DELIVERED = "undelivered"
SCOPES = (("all", "all emails"), ("subscribed", "digests and reports"))


async def emails(request: Request) -> Response:
    chosen = _chosen(request.query_params)
    wanted, every = _filter(chosen), _filter(chosen | {"state": ""})
    before = request.query_params.get("before", "")
    async with resources_of(request).read() as connection:
        rows = await log_search.newest(connection, wanted, limit=PAGE_SIZE + 1, before_id=_id(before))
        counts = await log_search.counts(connection, every)
    return render(
        request,
        "web/emails/list.html",
        rows=rows[:PAGE_SIZE],
        following=rows[PAGE_SIZE - 1]["id"] if len(rows) > PAGE_SIZE else None,
        counts=counts,
        max_counted=log_search.MAX_COUNTED,
        undelivered=sum(counts.get(state, 0) for state in UNDELIVERED),
        chosen=chosen,
        states=SHOWN_STATES,
        kinds=list(EMAILS),
        periods=PERIODS,
        resendable=operations.FINAL,
        has_inbox=caught_folder(resources_of(request).settings) is not None,
    )


def _chosen(values: QueryParams | FormData) -> dict[str, str]:
    """Return the filter as a person has chosen it; what does not exist filters nothing."""
    texts = {name: str(values.get(name, "")).strip() for name in ("state", "kind", "recipient", "ad", "since")}
    allowed = {
        "state": (*SHOWN_STATES, NOT_DELIVERED),
        "kind": tuple(EMAILS),
        "since": tuple(period for period, _ in PERIODS),
    }
    for name, known in allowed.items():
        texts[name] = texts[name] if texts[name] in known else ""
    texts["ad"] = texts["ad"] if _id(texts["ad"]) is not None else ""
    texts["since"] = texts["since"] or DEFAULT_PERIOD
    return texts


def _filter(chosen: dict[str, str]) -> LogFilter:
    state, since = chosen["state"], chosen["since"]
    return LogFilter(
        states=UNDELIVERED if state == NOT_DELIVERED else (state,) if state else (),
        kind=chosen["kind"] or None,
        recipient=chosen["recipient"] or None,
        ad_id=_id(chosen["ad"]),
        since=None if since == "all" else utc_now() - parse_duration(since),
    )


def _id(text: str) -> int | None:
    return int(text) if text.isdecimal() and text.isascii() and int(text) <= LARGEST_INT else None


async def email(request: Request) -> Response:
    resources = resources_of(request)
    async with resources.read() as connection:
        row = await log_search.find(connection, _path_id(request))
        if row is None:
            raise HTTPException(404, "This email does not exist; it may have been purged.")
        keys = operations.related_keys(row["key"])
        related = await log_search.ids_of_keys(connection, keys)
        scopes = await suppressions.scopes_of(connection, row["recipient"])
    return render(
        request,
        "web/emails/one.html",
        email=row,
        shown=await rendered(row, resources.settings),
        earlier=related.get(keys[0]) if len(keys) > 1 else None,
        later=related.get(keys[-1]) if keys else None,
        scopes=scopes,
        refusal=operations.refusal(row),
    )


async def email_body(request: Request) -> Response:
    async with resources_of(request).read() as connection:
        row = await log_search.find(connection, _path_id(request))
    settings = resources_of(request).settings
    shown = None if row is None else await rendered(row, settings, with_images=True)
    return body_response(None if shown is None else shown.html)


@action
async def resend(request: Request, form: FormData, actor: str) -> Response:
    id_, reason = _path_id(request), str(form.get("reason", "")).strip() or None
    async with resources_of(request).database.begin() as connection:
        await operations.resend(connection, id_, actor=actor, source=SOURCE, reason=reason)
    return done(request, f"Email {id_} was requested again, as a new email.", to=f"/emails/{id_}")


@action
async def resend_matching(request: Request, form: FormData, actor: str) -> Response:
    wanted, reason = _filter(_chosen(form)), str(form.get("reason", "")).strip() or None
    async with resources_of(request).database.begin() as connection:
        result = await operations.resend_matching(connection, wanted, actor=actor, source=SOURCE, reason=reason)
    skipped = "".join(f"; {len(result.skipped)} were not, because {why}" for why in list(result.skipped.values())[:1])
    count = "1 email was" if len(result.emails) == 1 else f"{len(result.emails)} emails were"
    more = "" if result.is_complete else f"; more than {operations.MAX_RESENT} match: repeat the action for the rest"
    return done(request, f"{count} requested again{skipped}{more}.", to=_back(form))


def _back(form: FormData) -> str:
    return f"/emails?state={_chosen(form)['state']}"


async def suppressed(request: Request) -> Response:
    async with resources_of(request).read() as connection:
        rows = await suppressions.newest(connection)
    wanted = request.query_params.get("address", "").strip().lower()
    found = [row for row in rows if wanted in row["address"]]
    return render(
        request,
        "web/emails/suppressed.html",
        rows=found[: PAGE_SIZE * 2],
        total=len(found),
        wanted=wanted,
        scopes=SCOPES,
        has_inbox=caught_folder(resources_of(request).settings) is not None,
    )


@action
async def suppress(request: Request, form: FormData, actor: str) -> Response:
    scope: operations.Scope = "subscribed" if form.get("scope") == "subscribed" else "all"
    address, reason = str(form.get("address", "")), str(form.get("reason", ""))
    async with resources_of(request).database.begin() as connection:
        added = await operations.suppress(connection, address, scope=scope, reason=reason, actor=actor, source=SOURCE)
    return done(request, f"{added} is suppressed.", to="/emails/suppressed")


@action
async def unsuppress(request: Request, form: FormData, actor: str) -> Response:
    address, reason = str(form.get("address", "")), str(form.get("reason", "")).strip()
    if not reason:
        raise PocketwatchError(f"{address}: a reason is required; say why it gets emails again")
    async with resources_of(request).database.begin() as connection:
        await operations.unsuppress(connection, address, reason=reason, actor=actor, source=SOURCE)
    return done(request, f"{address} gets emails again.", to="/emails/suppressed")


async def previews(request: Request) -> Response:
    has_inbox = caught_folder(resources_of(request).settings) is not None
    return render(request, "web/emails/previews.html", samples=SAMPLES, locales=LOCALES, has_inbox=has_inbox)


async def preview(request: Request) -> Response:
    name, locale = request.path_params["name"], _locale(request)
    shown = await preview_of(name, locale, resources_of(request).settings)
    if shown is None:
        raise HTTPException(404, "No email template has this name.")
    return render(request, "web/emails/preview.html", name=name, locale=locale, locales=LOCALES, shown=shown)


async def preview_body(request: Request) -> Response:
    settings = resources_of(request).settings
    shown = await preview_of(request.path_params["name"], _locale(request), settings, with_images=True)
    return body_response(None if shown is None else shown.html)


def _locale(request: Request) -> str:
    wanted = request.query_params.get("locale", LOCALES[0])
    return wanted if wanted in LOCALES else LOCALES[0]


async def inbox(request: Request) -> Response:
    folder = caught_folder(resources_of(request).settings)
    caught = [] if folder is None else caught_emails(folder, newest=MAX_CAUGHT)[::-1]
    return render(request, "web/emails/inbox.html", has_inbox=folder is not None, caught=caught, limit=MAX_CAUGHT)


async def inbox_email(request: Request) -> Response:
    return render(request, "web/emails/caught.html", email=_caught(request))


async def inbox_body(request: Request) -> Response:
    return body_response(_caught(request).html)


def _caught(request: Request) -> CaughtEmail:
    folder = caught_folder(resources_of(request).settings)
    found = None if folder is None else caught_email(folder, _path_id(request))
    if found is None:
        raise HTTPException(404, "The mail catcher has no such email.")
    return found


def _path_id(request: Request) -> int:
    return min(int(request.path_params["id"]), LARGEST_INT)


ROUTES: list[BaseRoute] = [
    Route("/emails", emails),
    Route("/emails/resend", resend_matching, methods=["POST"]),
    Route("/emails/suppressed", suppressed),
    Route("/emails/suppress", suppress, methods=["POST"]),
    Route("/emails/unsuppress", unsuppress, methods=["POST"]),
    Route("/emails/preview", previews),
    Route("/emails/preview/{name}", preview),
    Route("/emails/preview/{name}/body", preview_body),
    Route("/emails/inbox", inbox),
    Route("/emails/inbox/{id:int}", inbox_email),
    Route("/emails/inbox/{id:int}/body", inbox_body),
    Route("/emails/{id:int}", email),
    Route("/emails/{id:int}/body", email_body),
    Route("/emails/{id:int}/resend", resend, methods=["POST"]),
]
