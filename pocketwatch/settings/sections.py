"""The sections of the settings; the alias of a setting is its environment variable."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator

from pocketwatch.settings import types


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Servers(Section):
    """Where the servers are, and how long a process waits for them when it starts."""

    rabbitmq_url: types.AmqpUrl | None = Field(None, alias="RABBITMQ_URL")
    rabbitmq_management_url: types.HttpUrl | None = Field(None, alias="RABBITMQ_MANAGEMENT_URL")
    database_url: types.PostgresqlUrl | None = Field(None, alias="DATABASE_URL")
    redis_url: types.RedisUrl | None = Field(None, alias="REDIS_URL")
    django_cache: types.DjangoCacheUrl | None = Field(None, alias="POCKETWATCH_DJANGO_CACHE")
    smtp_url: types.SmtpUrl | None = Field(None, alias="SMTP_URL")
    celery_results: types.RedisUrl | None = Field(None, alias="POCKETWATCH_CELERY_RESULTS")
    startup_timeout: types.Duration = Field(timedelta(seconds=60), alias="POCKETWATCH_PATIENCE")


class Files(Section):
    """The folders that clean-up jobs may touch; they touch nothing outside."""

    media_root: types.Folder | None = Field(None, alias="POCKETWATCH_MEDIA_ROOT")
    static_root: types.Folder | None = Field(None, alias="POCKETWATCH_STATIC_ROOT")
    log_root: types.Folder | None = Field(None, alias="POCKETWATCH_LOG_ROOT")


class Rates(Section):
    """Which currency rates are fetched, and from where."""

    nbu_url: types.HttpUrl = Field(
        "https://bank.gov.ua/NBUStatService/v1/statdirectory/exchange?json", alias="POCKETWATCH_NBU_URL"
    )
    privatbank_url: types.HttpUrl = Field(
        "https://api.privatbank.ua/p24api/pubinfo?exchange&json&coursid=5", alias="POCKETWATCH_PRIVATBANK_URL"
    )
    currencies: types.Currencies = Field(("USD", "EUR", "PLN", "GBP"), alias="POCKETWATCH_CURRENCIES", min_length=1)
    stale_after: types.Duration = Field(timedelta(days=4), alias="POCKETWATCH_RATES_STALE_AFTER")  # a long weekend


class Sessions(Section):
    """Which keys in Redis are sessions."""

    key_patterns: types.KeyPatterns = Field(
        ("user:session:*", "user:token:*", "session:*", "verification-token:*"),
        alias="POCKETWATCH_SESSION_KEY_PATTERNS",
        min_length=1,
    )


class Site(Section):
    """The marketplace, as its users know it."""

    name: Annotated[types.OneLine, Field(min_length=1, max_length=60)] = Field(
        "AutoMarket", alias="POCKETWATCH_SITE_NAME"
    )
    url: types.HttpUrl = Field("http://localhost:3000", alias="POCKETWATCH_SITE_URL")
    ad_path: types.AdPath = Field("/ads/{ad_id}", alias="POCKETWATCH_AD_PATH")
    admin_ad_path: types.AdPath = Field("/admin/ads/carad/{ad_id}/change/", alias="POCKETWATCH_ADMIN_AD_PATH")
    timezone: types.Zone = Field("Europe/Kyiv", alias="POCKETWATCH_TIMEZONE")


class Moderation(Section):
    """The rules and the classifier that decide about ads."""

    rules: Path | None = Field(None, alias="POCKETWATCH_MODERATION_RULES")
    url: types.HttpUrl | None = Field(None, alias="POCKETWATCH_MODERATION_URL")
    model: str = Field("gpt-4o-mini", alias="POCKETWATCH_MODERATION_MODEL")
    key: SecretStr | None = Field(None, alias="POCKETWATCH_MODERATION_KEY")
    timeout: types.Duration = Field(timedelta(seconds=20), alias="POCKETWATCH_MODERATION_TIMEOUT", gt=timedelta(0))


class Mail(Section):
    """How emails are sent."""

    sender: types.Sender = Field("AutoMarket <noreply@localhost.localdomain>", alias="POCKETWATCH_MAIL_FROM")
    ehlo: types.EhloName | None = Field(None, alias="POCKETWATCH_MAIL_EHLO")  # None: the domain of the sender
    connections: Annotated[int, Field(ge=1, le=50)] = Field(8, alias="POCKETWATCH_MAIL_CONNECTIONS")
    per_second: Annotated[int, Field(ge=1)] | None = Field(None, alias="POCKETWATCH_MAIL_PER_SECOND")
    per_connection: Annotated[int, Field(ge=1)] | None = Field(None, alias="POCKETWATCH_MAIL_PER_CONNECTION")
    timeout: types.Duration = Field(timedelta(seconds=30), alias="POCKETWATCH_MAIL_TIMEOUT", gt=timedelta(0))
    digest_above: Annotated[int, Field(ge=1)] = Field(10, alias="POCKETWATCH_DIGEST_ABOVE")
    digest_window: types.Duration = Field(timedelta(hours=1), alias="POCKETWATCH_DIGEST_WINDOW", gt=timedelta(0))
    unsubscribe_url: types.HttpsUrl | None = Field(None, alias="POCKETWATCH_UNSUBSCRIBE_URL")
    token_secret: SecretStr | None = Field(None, alias="POCKETWATCH_WEB_TOKEN_SECRET", min_length=32)


class Bridge(Section):
    """Where Celery's tasks are read from, and where those that are not ours go on."""

    celery_queue: types.QueueName = Field("celery", alias="POCKETWATCH_CELERY_QUEUE")
    celery_forward_queue: types.QueueName | None = Field(None, alias="POCKETWATCH_CELERY_FORWARD_QUEUE")

    @field_validator("celery_forward_queue")
    @classmethod
    def _is_another_queue(cls, forward: str | None, others: ValidationInfo) -> str | None:
        if forward is not None and forward == others.data.get("celery_queue"):
            raise ValueError("the queue that the bridge reads; name the one of the site's remaining Celery workers")
        return forward


class Web(Section):
    """Who may use the console in the browser, and how they sign in."""

    sign_in: types.SignIn = Field((), alias="POCKETWATCH_WEB_SIGN_IN")
    secret_key: SecretStr | None = Field(None, alias="POCKETWATCH_WEB_SECRET_KEY", min_length=32)
    session_lifetime: types.Duration = Field(
        timedelta(hours=12), alias="POCKETWATCH_WEB_SESSION_LIFETIME", ge=timedelta(minutes=1), le=timedelta(days=30)
    )
    hosts: types.HostNames = Field((), alias="POCKETWATCH_WEB_HOSTS")
    trusted_proxies: types.Networks = Field((), alias="POCKETWATCH_WEB_TRUSTED_PROXIES")
    proxy_header: types.HeaderName = Field("X-Forwarded-User", alias="POCKETWATCH_WEB_PROXY_HEADER")
    proxy_operators: types.Names = Field((), alias="POCKETWATCH_WEB_PROXY_OPERATORS")


class Running(Section):
    """How processes run and stop."""

    schedule: Path | None = Field(None, alias="POCKETWATCH_SCHEDULE")
    grace: types.Duration = Field(timedelta(seconds=20), alias="POCKETWATCH_GRACE")
    time_budget: types.Duration = Field(timedelta(minutes=10), alias="POCKETWATCH_TIME_BUDGET", ge=timedelta(seconds=1))
    max_message_size: Annotated[int, Field(ge=1024)] = Field(2**20, alias="POCKETWATCH_MAX_MESSAGE_SIZE")  # bytes
    heartbeat_file: Path | None = Field(None, alias="POCKETWATCH_HEARTBEAT_FILE")
    heartbeat_url: types.HttpUrl | None = Field(None, alias="POCKETWATCH_HEARTBEAT_URL")  # its path is a secret


class Monitoring(Section):
    """What a process shows of itself, and to whom."""

    http: types.ListenAddress | None = Field(None, alias="POCKETWATCH_HTTP")
    otlp_endpoint: types.HttpUrl | None = Field(None, alias="POCKETWATCH_OTLP_ENDPOINT")
    service_name: Annotated[types.OneLine, Field(min_length=1, max_length=100)] = Field(
        "pocketwatch", alias="POCKETWATCH_OTLP_SERVICE_NAME"
    )


class Logging(Section):
    """What is logged, where, and in which format."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", alias="POCKETWATCH_LOG_LEVEL")
    format: Literal["auto", "console", "json"] = Field("auto", alias="POCKETWATCH_LOG_FORMAT")
    file: Path | None = Field(None, alias="POCKETWATCH_LOG_FILE")
