"""All settings, read from the environment and checked at once."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pocketwatch import urls
from pocketwatch.errors import SettingsError
from pocketwatch.settings.environment import problems
from pocketwatch.settings.files import read_dotenv, read_secret
from pocketwatch.settings.sections import (
    Bridge,
    Files,
    Logging,
    Mail,
    Moderation,
    Monitoring,
    Rates,
    Running,
    Servers,
    Sessions,
    Site,
    Web,
)

PREFIX = "POCKETWATCH_"
SECRET_SUFFIXES = ("_KEY", "_SECRET", "_HEARTBEAT_URL")  # of the names of settings whose values are never shown
LOCAL_STACK = Path(".pocketwatch/env")  # written by `pocketwatch stack up`, removed by `pocketwatch stack down`
DOTENV_FILES = (Path(".env"), LOCAL_STACK)  # the first has precedence


class Settings(BaseSettings):
    """All settings. Only `load` reads the environment; without it, each has its default."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid")

    servers: Servers = Servers()
    files: Files = Files()
    rates: Rates = Rates()
    sessions: Sessions = Sessions()
    site: Site = Site()
    moderation: Moderation = Moderation()
    mail: Mail = Mail()
    bridge: Bridge = Bridge()
    web: Web = Web()
    running: Running = Running()
    monitoring: Monitoring = Monitoring()
    logging: Logging = Logging()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature of the base
        init_settings: PydanticBaseSettingsSource,
        *_: PydanticBaseSettingsSource,
        **__: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @property
    def rabbitmq_urls(self) -> list[str]:
        """The nodes of the cluster, in the order in which they are tried."""
        return urls.split(require(self.servers.rabbitmq_url, "RABBITMQ_URL"))

    @property
    def database_url(self) -> str:
        """The database, as a plain `postgresql://` URL."""
        return require(self.servers.database_url, "DATABASE_URL")


class Source(PydanticBaseSettingsSource):
    """Finds each value in the process environment, `.env`, or the file of the local stack, in this order.

    Each may hold `NAME`, or `NAME_FILE` with the path of a file that holds the value.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        super().__init__(Settings)
        self.places = (environment, *(read_dotenv(folder / file, _known()) for file in DOTENV_FILES))

    def __call__(self) -> dict[str, Any]:
        return {name: self.get_field_value(field, name)[0] for name, field in Settings.model_fields.items()}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[dict[str, str], str, bool]:
        """Return the values of a section, by the names of their variables."""
        return self._values(_variables(field)), field_name, True

    def _values(self, names: list[str]) -> dict[str, str]:
        found = {name: self.value(name) for name in names}
        # An empty variable is one that is not set; but an empty root would be the current folder, and is refused.
        return {name: value for name, value in found.items() if value or (value == "" and name.endswith("_ROOT"))}

    def value(self, name: str) -> str | None:
        for place in self.places:
            if value := place.get(name):
                return value
            if path := place.get(f"{name}_FILE"):
                return read_secret(f"{name}_FILE", path)
            if value is not None:
                return value
        return None


def load(environment: Mapping[str, str] | None = None, *, folder: Path | None = None) -> Settings:
    """Read and check all settings.

    Args:
        environment: instead of the process environment.
        folder: where `.env` and the local stack are looked for; the current folder by default.

    Raises:
        SettingsError: naming each wrong setting, its value (unless secret) and what would be accepted.
    """
    variables = os.environ if environment is None else environment
    source = Source(variables, folder or Path.cwd())
    try:
        loaded = Settings(_build_sources=((source,), {}))
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error, source))) from None  # it holds secrets
    if wrong := "; ".join(problems(variables, loaded.servers)):
        raise SettingsError(wrong)
    return loaded


def use_file(file: Path) -> None:
    """Take the settings of a file into the process environment; those that are set there stay.

    Raises:
        SettingsError: when it cannot be read, or has a line that is no assignment.
    """
    found = read_dotenv(file, _known())
    os.environ.update(
        {
            name: value
            for name, value in found.items()
            if value is not None and os.environ.keys().isdisjoint({name, f"{name}_FILE", name.removesuffix("_FILE")})
        }
    )


def require(value: str | None, name: str) -> str:
    """Return the value of a setting that the calling command needs.

    Raises:
        SettingsError: when it is not set.
    """
    if value is None:
        raise SettingsError(f"{name} is not set; set it, or start the servers of this machine: pocketwatch stack up")
    return value


def names() -> list[str]:
    return [name for section in Settings.model_fields.values() for name in _variables(section)]


def unknown_names() -> dict[str, str | None]:
    """Return the unknown `POCKETWATCH_*` variables, those of `.env` too, each with the closest known name."""
    known = _known()
    present = {**read_dotenv(DOTENV_FILES[0], known), **os.environ}
    unknown = sorted(name for name in present if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, names(), n=1)), None) for name in unknown}


def _known() -> set[str]:
    return {*names(), *(f"{name}_FILE" for name in names())}


def _variables(section: FieldInfo) -> list[str]:
    model = section.annotation
    assert isinstance(model, type)  # noqa: S101  each field of Settings is a section
    assert issubclass(model, BaseModel)  # noqa: S101
    return [str(setting.alias) for setting in model.model_fields.values()]


def _problems(error: ValidationError, source: Source) -> Iterator[str]:
    # The first error of each setting: the others follow from it.
    messages = {str(problem["loc"][1]): problem["msg"] for problem in reversed(error.errors())}
    for name in sorted(messages, key=names().index):
        shown = f'"{urls.without_password(source.value(name) or "")}"'
        shown = "wrong (a secret, not shown)" if name.endswith(SECRET_SUFFIXES) else shown
        yield f"{name} is {shown}: {_reason(messages[name])}"


def _reason(message: str) -> str:
    reason = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return re.sub(r"\w+ should have at least (\d+) items after validation", r"must have \1 characters or more", reason)
