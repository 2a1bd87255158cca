"""Where settings are read from, and how wrong ones are refused."""

from datetime import timedelta
from pathlib import Path

import pytest
from celery import Celery

from pocketwatch import settings
from pocketwatch.broker.connection import vhost_of
from pocketwatch.errors import SettingsError
from pocketwatch.urls.amqp import with_standard_schemes


def refused(tmp_path: Path, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.load(environment, folder=tmp_path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "RABBITMQ_URL",
            "localhost",
            'RABBITMQ_URL is "localhost": must be a URL that starts with amqp:// or amqps://',
        ),
        (
            "RABBITMQ_URL",
            "amqp://one/x,http://two/x",
            (
                'RABBITMQ_URL is "amqp://one/x,http://two/x": '
                "must be a URL that starts with amqp:// or amqps:// and names a host"
            ),
        ),
        (
            "DATABASE_URL",
            "mysql://host/db",
            'DATABASE_URL is "mysql://host/db": must be a URL that starts with postgresql://',
        ),
        (
            "DATABASE_URL",
            "postgresql://u@a:5432,b:x/db",
            'DATABASE_URL is "postgresql://u@a:5432,b:x/db": the port must be a number from 1 to 65535, or left out',
        ),
        ("SMTP_URL", "smtp://host:99999", 'SMTP_URL is "smtp://host:99999": the port must be a number from 1 to 65535'),
        ("POCKETWATCH_CURRENCIES", "USD,eur", 'POCKETWATCH_CURRENCIES is "USD,eur": "eur" is not a currency code; use'),
        ("POCKETWATCH_MEDIA_ROOT", "", 'POCKETWATCH_MEDIA_ROOT is "": must not be empty'),
        ("POCKETWATCH_MEDIA_ROOT", "/", 'POCKETWATCH_MEDIA_ROOT is "/": must not be the root of the file system'),
        ("POCKETWATCH_MEDIA_ROOT", "/srv/..", 'POCKETWATCH_MEDIA_ROOT is "/srv/..": must not be the root of the file'),
        ("POCKETWATCH_MEDIA_ROOT", "media", 'POCKETWATCH_MEDIA_ROOT is "media": must be an absolute path'),
        (
            "POCKETWATCH_GRACE",
            "20",
            'POCKETWATCH_GRACE is "20": not a duration; use a whole number and a unit',
        ),
        ("POCKETWATCH_TIME_BUDGET", "0s", 'POCKETWATCH_TIME_BUDGET is "0s": must be greater than or equal to 1 second'),
        (
            "POCKETWATCH_CELERY_FORWARD_QUEUE",
            "celery",
            'POCKETWATCH_CELERY_FORWARD_QUEUE is "celery": the queue that the bridge reads; name the one of the',
        ),
        ("POCKETWATCH_TIMEZONE", "Kiev", 'POCKETWATCH_TIMEZONE is "Kiev": must be the name of a time zone, such as'),
        (
            "POCKETWATCH_AD_PATH",
            "/ads",
            'POCKETWATCH_AD_PATH is "/ads": must be a path that begins with / and contains',
        ),
        ("POCKETWATCH_MAIL_FROM", "me", 'POCKETWATCH_MAIL_FROM is "me": must be an address with a domain, such as'),
        ("POCKETWATCH_MAIL_FROM", "a@b.c\nBcc: x@y.z", "POCKETWATCH_MAIL_FROM is"),
        ("POCKETWATCH_MAIL_EHLO", "shop_example", 'POCKETWATCH_MAIL_EHLO is "shop_example": must be a host name or an'),
        ("POCKETWATCH_MAIL_EHLO", "[192.0.2.256]", "POCKETWATCH_MAIL_EHLO is"),
        ("POCKETWATCH_MAIL_EHLO", "192.0.2.1 x", "POCKETWATCH_MAIL_EHLO is"),
        ("POCKETWATCH_MAIL_EHLO", f"{'a' * 64}.example", "POCKETWATCH_MAIL_EHLO is"),
        ("POCKETWATCH_DIGEST_WINDOW", "0s", 'POCKETWATCH_DIGEST_WINDOW is "0s": must be greater than 0'),
        ("POCKETWATCH_LOG_FORMAT", "xml", "POCKETWATCH_LOG_FORMAT is \"xml\": must be 'auto', 'console' or 'json'"),
    ],
)
def test_wrong_setting_is_refused_with_name_value_and_remedy(tmp_path: Path, name: str, value: str, words: str):
    assert refused(tmp_path, **{name: value}).startswith(words)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("mail.shop.example", "mail.shop.example"),
        ("пошта.example", "xn--80a1acn3a.example"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]"),
    ],
)
def test_ehlo_name_is_a_host_name_in_ascii_or_an_address_literal(tmp_path: Path, value: str, name: str):
    assert settings.load({"POCKETWATCH_MAIL_EHLO": value}, folder=tmp_path).mail.ehlo == name


def test_passwords_are_masked(tmp_path: Path):
    words = refused(tmp_path, DATABASE_URL="mysql://user:secret@host/db", RABBITMQ_URL="ftp://user:secret@host/")

    assert "secret" not in words
    assert "user:***@host" in words


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hush@host/db",
        "mysql://user:hu@hush@host/db",
        "mysql://user:hu/hush@host/db",
        "mysql://user:hu,hush@host/db",
        "user:hush@host/db",
        "mysql:/user:hush@host/db",
        "mysql://host/db?user=user&password=hush",
        "mysql://a:hush@host,mysql://b:hush@host",
    ],
)
def test_passwords_are_masked_in_malformed_urls(tmp_path: Path, url: str):
    words = refused(tmp_path, DATABASE_URL=url)

    assert words.startswith('DATABASE_URL is "')
    assert "hush" not in words
    assert "host" in words


def test_urls_may_contain_commas(tmp_path: Path):
    hosts, query = "postgresql://u@a:5432,b:5433/db", "https://bank.example/rates?codes=USD,EUR"

    loaded = settings.load({"DATABASE_URL": hosts, "POCKETWATCH_NBU_URL": query}, folder=tmp_path)

    assert (loaded.database_url, loaded.rates.nbu_url) == (hosts, query)


def test_wrong_secret_is_not_shown(tmp_path: Path):
    words = refused(tmp_path, POCKETWATCH_WEB_TOKEN_SECRET="hunter2")

    assert "hunter2" not in words
    assert words.startswith("POCKETWATCH_WEB_TOKEN_SECRET is wrong (a secret, not shown): ")
    assert words.endswith("must have 32 characters or more, not 7")


@pytest.mark.parametrize("url", ["ftp://monitor.example/hunter2", "monitor.example/hunter2"])
def test_wrong_url_of_the_monitor_is_not_shown(tmp_path: Path, url: str):
    words = refused(tmp_path, POCKETWATCH_HEARTBEAT_URL=url)

    assert "hunter2" not in words
    assert words.startswith("POCKETWATCH_HEARTBEAT_URL is wrong (a secret, not shown): ")


def test_only_the_first_error_of_a_setting_is_shown(tmp_path: Path):
    words = refused(tmp_path, POCKETWATCH_SESSION_KEY_PATTERNS="user:*")

    assert "could match users or accounts" in words
    assert "Tuple" not in words


def test_all_wrong_settings_are_named(tmp_path: Path):
    words = refused(tmp_path, POCKETWATCH_GRACE="x", POCKETWATCH_LOG_LEVEL="y")

    assert "POCKETWATCH_GRACE" in words
    assert "POCKETWATCH_LOG_LEVEL" in words


def test_environment_precedes_dotenv_and_dotenv_the_local_stack(tmp_path: Path):
    (tmp_path / ".pocketwatch").mkdir()
    (tmp_path / ".pocketwatch/env").write_text("DATABASE_URL=postgresql://stack/x\nREDIS_URL=redis://stack/0\n")
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://file/x\nRABBITMQ_URL=amqp://file/x\n")

    loaded = settings.load({"RABBITMQ_URL": "amqp://environment/x"}, folder=tmp_path).servers

    assert loaded.rabbitmq_url == "amqp://environment/x"
    assert loaded.database_url == "postgresql://file/x"
    assert loaded.redis_url == "redis://stack/0"


def test_value_is_read_from_a_file(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("postgresql://user:pass@host/db\n")

    assert (
        settings.load({"DATABASE_URL_FILE": str(secret)}, folder=tmp_path).database_url
        == "postgresql://user:pass@host/db"
    )
    assert refused(tmp_path, DATABASE_URL_FILE="/no/such").startswith(
        'DATABASE_URL_FILE is "/no/such", which cannot be read'
    )


def test_each_place_may_name_a_file(tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_text("postgresql://file/db")
    (tmp_path / ".pocketwatch").mkdir()
    (tmp_path / ".pocketwatch/env").write_text("DATABASE_URL=postgresql://stack/db\n")
    (tmp_path / ".env").write_text(f"DATABASE_URL_FILE={secret}\n")

    assert settings.load({}, folder=tmp_path).database_url == "postgresql://file/db"
    environment = {"DATABASE_URL": "postgresql://environment/db", "DATABASE_URL_FILE": str(secret)}
    assert settings.load(environment, folder=tmp_path).database_url == "postgresql://environment/db"


def test_only_load_reads_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POCKETWATCH_GRACE", "2m")
    monkeypatch.setenv("RUNNING", "{}")

    assert settings.Settings().running.grace == timedelta(seconds=20)


def test_empty_value_is_not_set(tmp_path: Path):
    assert settings.load({"REDIS_URL": ""}, folder=tmp_path).servers.redis_url is None


def test_missing_setting_is_named(tmp_path: Path):
    loaded = settings.load({}, folder=tmp_path)

    with pytest.raises(SettingsError, match="DATABASE_URL is not set; set it, or start the servers of this machine"):
        _ = loaded.database_url


def test_rabbitmq_url_may_list_a_cluster(tmp_path: Path):
    loaded = settings.load({"RABBITMQ_URL": "amqp://a/x,amqp://b/x"}, folder=tmp_path)

    assert loaded.rabbitmq_urls == ["amqp://a/x", "amqp://b/x"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("pyamqp://guest:guest@rabbitmq:5672//", ["amqp://guest:guest@rabbitmq:5672//"]),
        ("pyamqp://u:pyamqp%3A@a/x,pyamqp://b/y", ["amqp://u:pyamqp%3A@a/x", "amqp://b/y"]),
    ],
)
def test_celerys_spelling_of_a_broker_is_accepted(tmp_path: Path, written: str, read: list[str]):
    assert settings.load({"RABBITMQ_URL": written}, folder=tmp_path).rabbitmq_urls == read


@pytest.mark.parametrize("path", ["", "/", "//", "/%2F", "/shop", "//shop", "/%2Fshop", "/a%2Fb"])
def test_vhost_of_a_url_is_that_of_celery(path: str):
    url = f"pyamqp://guest:guest@rabbitmq:5672{path}"

    assert vhost_of(with_standard_schemes(url)) == Celery(broker=url).connection_for_write().info()["virtual_host"]


def test_unknown_name_comes_with_the_closest_known_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POCKETWATCH_MEDIA_ROT", "/x")
    monkeypatch.setenv("POCKETWATCH_LOG_FILE_FILE", "x")
    (tmp_path / ".env").write_text("POCKETWATCH_GRCE=1s\nPOCKETWATCH_PATIENCE=1s\nOTHER=1\n")

    unknown = settings.unknown_names()

    assert unknown == {"POCKETWATCH_GRCE": "POCKETWATCH_GRACE", "POCKETWATCH_MEDIA_ROT": "POCKETWATCH_MEDIA_ROOT"}


def test_durations_have_units(tmp_path: Path):
    loaded = settings.load({"POCKETWATCH_GRACE": "2m"}, folder=tmp_path)

    assert loaded.running.grace == timedelta(minutes=2)
