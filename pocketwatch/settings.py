"""Settings: read once at the entry point, handed down, refused loudly.

Each has one environment variable. Looked up in this order, first hit wins: the process environment, `NAME_FILE` (a file
that holds the value, for secrets), the file `.env`, and the servers that `pocketwatch stack up` runs here.
Nothing else in the project reads the environment.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from pocketwatch.clock import parse_duration
from pocketwatch.errors import SettingsError

PREFIX = "POCKETWATCH_"
SECRET = ("_KEY", "_SECRET")  # what the names of secrets end in
SHORTEST_PREFIX = 4  # of a pattern of keys that may be deleted
# How keys of Auth.js in Redis begin, after any prefix of the site's own: sessions, and what is never to be deleted.
SESSIONS = ("user:session:", "user:token:", "session:", "session-ids:", "verification-token:")
NO_SESSIONS = ("user:", "users:", "user-id:", "account:", "accounts:", "account-ids:", "authenticator:")
NEXT_URL = re.compile(r",(?=[a-z+]+://)")  # between the URLs of a list
LOCAL_STACK = Path(".pocketwatch/env")  # written by `pocketwatch stack up`, removed by `pocketwatch stack down`


def _url(*schemes: str) -> AfterValidator:
    wanted = " or ".join(f"{scheme}://" for scheme in schemes)

    def check(text: str) -> str:
        for part in NEXT_URL.split(text):
            url = urlsplit(part)
            if url.scheme not in schemes or not (url.hostname or "host=" in url.query):
                raise ValueError(f"must be a URL that starts with {wanted} and names a host")
            _check_ports(url.netloc)
        return text

    return AfterValidator(check)


def _check_ports(netloc: str) -> None:
    """PostgreSQL's URLs may name several hosts, each with its port."""
    for host in netloc.rpartition("@")[2].split(","):
        try:
            _ = urlsplit(f"//{host}").port
        except ValueError as error:
            raise ValueError(f'"{host}" must end in a port from 1 to 65535, or in none') from error


def _absolute_folder(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    if path.parent == path or Path(os.path.normpath(path)).parent == Path(os.path.normpath(path)):
        raise ValueError("must not be the root of the file system")
    return path


def _given(text: Any) -> Any:
    """An empty root would be the folder that a process happens to stand in."""
    if text == "":
        raise ValueError("must not be empty; leave the setting out when there is no such folder")
    return text


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


def _listed(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",")) if isinstance(value, str) else value


def _narrow(pattern: str) -> str:
    if re.search(r"[\[\]\\]", pattern) or not pattern.isprintable():
        raise ValueError(f'"{pattern}" must be plain text; its wildcards are * and ? only')
    head = re.split(r"[*?]", pattern)[0]
    if len(head) < SHORTEST_PREFIX:
        raise ValueError(f'"{pattern}" must begin with {SHORTEST_PREFIX} characters or more that are no wildcard')
    if _may_be_no_session(head):
        raise ValueError(f'"{pattern}" could match users or accounts; name sessions only, such as {SESSIONS[0]}*')
    return pattern


def _may_be_no_session(head: str) -> bool:
    """Whether a key that begins like this could be a user's or an account's."""
    for begin in (0, *(match.end() for match in re.finditer(":", head))):
        rest = head[begin:]
        if rest.startswith(SESSIONS):
            return False
        if rest and any(word.startswith(rest) or rest.startswith(word) for word in NO_SESSIONS):
            return True
    return False


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be printable text on one line")
    return text


def _sender(text: str) -> str:
    _, address = parseaddr(_one_line(text))
    local, at, domain = address.rpartition("@")
    if not (local and at and "." in domain and address.isascii()):
        raise ValueError("must be an address with a domain, such as Shop <noreply@shop.example>")
    return text


def _ad_path(text: str) -> str:
    if not text.startswith("/") or text.count("{ad_id}") != 1 or not text.replace("{ad_id}", "").isprintable():
        raise ValueError("must be a path that begins with / and contains {ad_id} once, such as /ads/{ad_id}")
    return text


def _currency(text: str) -> str:
    if not re.fullmatch("[A-Z]{3}", text):
        raise ValueError(f'"{text}" is no currency; write three capital letters each, such as USD,EUR')
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError("must be the name of a time zone, such as Europe/Kyiv") from error
    return text


Duration = Annotated[timedelta, BeforeValidator(_duration)]
Folder = Annotated[Path, BeforeValidator(_given), AfterValidator(_absolute_folder)]
AdPath = Annotated[str, AfterValidator(_ad_path)]
Zone = Annotated[str, AfterValidator(_zone)]
AmqpUrl = Annotated[str, _url("amqp", "amqps")]
HttpUrl = Annotated[str, _url("http", "https")]
HttpsUrl = Annotated[str, _url("https")]
CurrencyCode = Annotated[str, AfterValidator(_currency)]
KeyPattern = Annotated[str, AfterValidator(_narrow)]


class Group(BaseModel):
    """Settings that belong together; an alias is the name of the environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Servers(Group):
    """Where the servers are."""

    rabbitmq_url: AmqpUrl | None = Field(None, alias="RABBITMQ_URL")
    rabbitmq_management_url: HttpUrl | None = Field(None, alias="RABBITMQ_MANAGEMENT_URL")
    database_url: Annotated[str, _url("postgresql", "postgres")] | None = Field(None, alias="DATABASE_URL")
    redis_url: Annotated[str, _url("redis", "rediss")] | None = Field(None, alias="REDIS_URL")
    smtp_url: Annotated[str, _url("smtp", "smtps", "smtp+starttls")] | None = Field(None, alias="SMTP_URL")
    startup_timeout: Duration = Field(timedelta(seconds=60), alias="POCKETWATCH_PATIENCE")


class Files(Group):
    """The folders that clean-up jobs may touch, and nothing outside them."""

    media_root: Folder | None = Field(None, alias="POCKETWATCH_MEDIA_ROOT")
    static_root: Folder | None = Field(None, alias="POCKETWATCH_STATIC_ROOT")
    log_root: Folder | None = Field(None, alias="POCKETWATCH_LOG_ROOT")


class Rates(Group):
    """Where currency rates come from, and which are wanted."""

    nbu_url: HttpUrl = Field(
        "https://bank.gov.ua/NBUStatService/v1/statdirectory/exchange?json", alias="POCKETWATCH_NBU_URL"
    )
    privatbank_url: HttpUrl = Field(
        "https://api.privatbank.ua/p24api/pubinfo?exchange&json&coursid=5", alias="POCKETWATCH_PRIVATBANK_URL"
    )
    currencies: Annotated[tuple[CurrencyCode, ...], BeforeValidator(_listed)] = Field(
        ("USD", "EUR", "PLN", "GBP"), alias="POCKETWATCH_CURRENCIES", min_length=1
    )
    stale_after: Duration = Field(timedelta(days=4), alias="POCKETWATCH_RATES_STALE_AFTER")  # a long weekend


class Sessions(Group):
    """Which keys of Redis are sessions."""

    key_patterns: Annotated[tuple[KeyPattern, ...], BeforeValidator(_listed)] = Field(
        ("user:session:*", "user:token:*", "session:*", "verification-token:*"),
        alias="POCKETWATCH_SESSION_KEY_PATTERNS",
        min_length=1,
    )


class Site(Group):
    """The marketplace, as its readers know it."""

    name: Annotated[str, Field(min_length=1, max_length=60), AfterValidator(_one_line)] = Field(
        "AutoMarket", alias="POCKETWATCH_SITE_NAME"
    )
    url: HttpUrl = Field("http://localhost:3000", alias="POCKETWATCH_SITE_URL")
    ad_path: AdPath = Field("/ads/{ad_id}", alias="POCKETWATCH_AD_PATH")
    admin_ad_path: AdPath = Field("/admin/ads/carad/{ad_id}/change/", alias="POCKETWATCH_ADMIN_AD_PATH")
    timezone: Zone = Field("Europe/Kyiv", alias="POCKETWATCH_TIMEZONE")


class Moderation(Group):
    """What decides about ads."""

    rules: Path | None = Field(None, alias="POCKETWATCH_MODERATION_RULES")
    url: HttpUrl | None = Field(None, alias="POCKETWATCH_MODERATION_URL")
    model: str = Field("gpt-4o-mini", alias="POCKETWATCH_MODERATION_MODEL")
    key: SecretStr | None = Field(None, alias="POCKETWATCH_MODERATION_KEY")
    timeout: Duration = Field(timedelta(seconds=20), alias="POCKETWATCH_MODERATION_TIMEOUT", gt=timedelta(0))


class Mail(Group):
    """How letters are sent."""

    sender: Annotated[str, AfterValidator(_sender)] = Field(
        "AutoMarket <noreply@localhost.localdomain>", alias="POCKETWATCH_MAIL_FROM"
    )
    connections: Annotated[int, Field(ge=1, le=50)] = Field(8, alias="POCKETWATCH_MAIL_CONNECTIONS")
    per_second: Annotated[int, Field(ge=1)] | None = Field(None, alias="POCKETWATCH_MAIL_PER_SECOND")
    per_connection: Annotated[int, Field(ge=1)] | None = Field(None, alias="POCKETWATCH_MAIL_PER_CONNECTION")
    timeout: Duration = Field(timedelta(seconds=30), alias="POCKETWATCH_MAIL_TIMEOUT", gt=timedelta(0))
    digest_above: Annotated[int, Field(ge=1)] = Field(10, alias="POCKETWATCH_DIGEST_ABOVE")
    digest_window: Duration = Field(timedelta(hours=1), alias="POCKETWATCH_DIGEST_WINDOW", gt=timedelta(0))
    unsubscribe_url: HttpsUrl | None = Field(None, alias="POCKETWATCH_UNSUBSCRIBE_URL")
    token_secret: SecretStr | None = Field(None, alias="POCKETWATCH_WEB_TOKEN_SECRET", min_length=32)


class Bridge(Group):
    """Where Celery's tasks are taken from."""

    celery_queue: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_one_line)] = Field(
        "celery", alias="POCKETWATCH_CELERY_QUEUE"
    )


class Running(Group):
    """How processes run and stop."""

    schedule: Path | None = Field(None, alias="POCKETWATCH_SCHEDULE")
    grace: Duration = Field(timedelta(seconds=20), alias="POCKETWATCH_GRACE")
    time_budget: Duration = Field(timedelta(minutes=10), alias="POCKETWATCH_TIME_BUDGET", ge=timedelta(seconds=1))
    heartbeat_file: Path | None = Field(None, alias="POCKETWATCH_HEARTBEAT_FILE")


class Logging(Group):
    """What is logged, where, and in which form."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="POCKETWATCH_LOG_LEVEL")
    format: Literal["auto", "console", "json"] = Field("auto", alias="POCKETWATCH_LOG_FORMAT")
    file: Path | None = Field(None, alias="POCKETWATCH_LOG_FILE")


class Settings(Group):
    """All settings, in their groups."""

    servers: Servers = Servers()
    files: Files = Files()
    rates: Rates = Rates()
    sessions: Sessions = Sessions()
    site: Site = Site()
    moderation: Moderation = Moderation()
    mail: Mail = Mail()
    bridge: Bridge = Bridge()
    running: Running = Running()
    logging: Logging = Logging()

    @property
    def rabbitmq_urls(self) -> list[str]:
        """The nodes of the cluster, in the order in which they are tried."""
        return NEXT_URL.split(needed(self.servers.rabbitmq_url, "RABBITMQ_URL"))

    @property
    def database_url(self) -> str:
        """The database, as a plain `postgresql://` URL."""
        return needed(self.servers.database_url, "DATABASE_URL")


def needed(value: str | None, name: str) -> str:
    """The value of a setting that this command cannot do without.

    Raises:
        SettingsError: when it is not set.
    """
    if value is None:
        raise SettingsError(f"{name} is not set; set it, or start the servers of this machine: pocketwatch stack up")
    return value


def names() -> Iterator[str]:
    """Every environment variable that is read."""
    for group in Settings.model_fields.values():
        model = group.annotation
        if isinstance(model, type) and issubclass(model, Group):
            yield from (str(field.alias) for field in model.model_fields.values())


def load(environment: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """Read and check all settings.

    Args:
        environment: instead of the process environment.
        folder: where `.env` and the local stack are looked for; the current folder by default.

    Raises:
        SettingsError: naming each wrong setting, its value (unless secret) and what would be right.
    """
    values = _values(os.environ if environment is None else environment, folder or Path.cwd())
    groups: dict[str, Any] = {}
    problems: list[str] = []
    for name, info in Settings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)  # noqa: S101  each group of Settings is a class
        wanted = {str(field.alias) for field in model.model_fields.values()}
        try:
            groups[name] = model(**{key: value for key, value in values.items() if key in wanted})
        except ValidationError as error:
            problems += _explain(error, values)
    if problems:
        raise SettingsError("; ".join(problems))
    return Settings(**groups)


def unknown_names() -> dict[str, str | None]:
    """Variables with our prefix, also of `.env`, that nothing reads, each with the known name that comes nearest."""
    known = list(names())
    present = {**dotenv_values(".env"), **os.environ}
    strangers = (name for name in present if name.startswith(PREFIX) and name.removesuffix("_FILE") not in known)
    return {
        name: next(iter(difflib.get_close_matches(name, known, n=1)), None)
        for name in sorted(strangers)
        if name not in known
    }


def _values(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    local = {key: value for key, value in dotenv_values(folder / LOCAL_STACK).items() if value is not None}
    dotenv = {key: value for key, value in dotenv_values(folder / ".env").items() if value is not None}
    values: dict[str, str] = {}
    for name in names():
        for source in (environment, dotenv, local):
            if name in source:
                values[name] = source[name]
                break
            if f"{name}_FILE" in source and f"{name}_FILE" not in names():
                values[name] = _secret(f"{name}_FILE", source[f"{name}_FILE"])
                break
    return {name: value for name, value in values.items() if value != "" or name.endswith("_ROOT")}


def _secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f'{name} is "{path}", which cannot be read: {error}') from error


def _explain(error: ValidationError, values: Mapping[str, str]) -> Iterator[str]:
    first = {str(problem["loc"][0]): problem for problem in reversed(error.errors())}
    for name, problem in first.items():  # what else is wrong with the same setting follows from it
        shown = "wrong (a secret, not shown)" if name.endswith(SECRET) else f'"{without_password(values[name])}"'
        yield f"{name} is {shown}: {_words(problem['msg'])}"


def without_password(url: str) -> str:
    """The same URL, or list of URLs, fit for a log line; also where something is amiss with it."""
    shown = (re.sub(r":(?!//).*@", ":***@", part, flags=re.DOTALL) for part in NEXT_URL.split(url))
    return re.sub(r"(password=)[^&,]*", r"\1***", ",".join(shown))


def _words(message: str) -> str:
    said = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return re.sub(r"\w+ should have at least (\d+) items after validation", r"must have \1 characters or more", said)
