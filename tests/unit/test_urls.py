"""The URLs of servers: understood, or refused at once by name, and never shown with a part of their password."""

import asyncio
from pathlib import Path
from urllib.parse import quote

import aiormq
import pytest

from pocketwatch import settings
from pocketwatch.broker.connection import with_connection_name
from pocketwatch.errors import SettingsError
from pocketwatch.stack.servers import address
from pocketwatch.urls import without_password
from pocketwatch.urls.amqp import parse_amqp
from pocketwatch.urls.postgresql import parse_postgresql
from pocketwatch.urls.redis import parse_redis

SERVERS = {
    "RABBITMQ_URL": "amqp",
    "RABBITMQ_MANAGEMENT_URL": "http",
    "DATABASE_URL": "postgresql",
    "REDIS_URL": "redis",
    "POCKETWATCH_DJANGO_CACHE": "rediss",
    "SMTP_URL": "smtps",
    "POCKETWATCH_NBU_URL": "https",
    "POCKETWATCH_MODERATION_URL": "https",
}


def refused(tmp_path: Path, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.load(environment, folder=tmp_path)
    return str(caught.value)


@pytest.mark.parametrize("login", ["user:HEAD{}TAIL", "user:12345{}TAIL", "HEAD:5432{}TAIL"])
@pytest.mark.parametrize("character", "/#?")
@pytest.mark.parametrize("name", SERVERS)
def test_unencoded_password_is_refused_and_masked_as_a_whole(tmp_path: Path, name: str, character: str, login: str):
    words = refused(tmp_path, **{name: f"{SERVERS[name]}://{login.format(character)}@server.example/1"})

    assert words.startswith(f'{name} is "{SERVERS[name]}://***@server.example/1": ')
    assert "HEAD" not in words
    assert "TAIL" not in words
    assert "write / ? # and @ in a user or password as %2F %3F %23 and %40" in words


@pytest.mark.parametrize("name", SERVERS)
def test_password_without_a_host_is_masked(tmp_path: Path, name: str):
    words = refused(tmp_path, **{name: f"{SERVERS[name]}://user:HEAD"})

    assert "HEAD" not in words


@pytest.mark.parametrize(
    "query", ["password=HEAD#TAIL", "password=HEAD&TAIL", "password=HEAD&TAIL=1", "sslkey=HEAD,TAIL&x=1"]
)
@pytest.mark.parametrize("name", ["RABBITMQ_URL", "DATABASE_URL", "REDIS_URL", "POCKETWATCH_DJANGO_CACHE"])
def test_secrets_of_a_query_are_masked(tmp_path: Path, name: str, query: str):
    words = refused(tmp_path, **{name: f"{SERVERS[name]}://server.example/1?{query}"})

    assert "HEAD" not in words
    assert "TAIL" not in words


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:a,b@one/x,amqp://u:c@two/x", "amqp://u:***@one/x,amqp://u:***@two/x"),
        ("amqp://u:a,amqp://b@one/x", "amqp://***@one/x"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("https://bank.example/rates?codes=USD&api_key=hush&x=1", "https://bank.example/rates?codes=USD&api_key=***"),
    ],
)
def test_what_is_shown_of_a_url(url: str, shown: str):
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("name", "url", "words"),
    [
        ("RABBITMQ_URL", "amqp://a:0/x", "the port must be a number from 1 to 65535"),
        ("RABBITMQ_URL", "amqp://a:65536/x", "the port must be a number from 1 to 65535"),
        ("RABBITMQ_URL", "amqp://::1/x", "write an IPv6 address in brackets, such as [::1]:5432"),
        ("RABBITMQ_URL", "amqp://[::g]/x", "write an IPv6 address in brackets, such as [::1]:5432"),
        ("RABBITMQ_URL", "amqp://user:pass@/x", "must be a URL that starts with amqp:// or amqps:// and names a host"),
        ("RABBITMQ_URL", "amqp://a..b/x", "the host is not a valid name or address"),
        ("RABBITMQ_URL", "amqp://a,b/x", "the host is not a valid name or address"),
        ("RABBITMQ_URL", "amqp://a/x, amqp://b/x", "must not contain spaces"),
        ("RABBITMQ_URL", "amqp://a/x,", "must not end in a comma"),
        ("RABBITMQ_URL", "amqp://user@a/x", "incomplete login; give user and password, or neither"),
        ("RABBITMQ_URL", "amqp://a/x?heartbeat=abc", "parameter heartbeat must be whole seconds up to 65534"),
        (
            "RABBITMQ_URL",
            "amqp://a/x,amqp://b/x?foo=bar",
            "parameter foo is unknown; known: heartbeat, auth, cafile",
        ),
        ("RABBITMQ_URL", "amqp://a/x?cafile=/ca.pem", "parameter cafile has no effect without TLS; use amqps://"),
        ("RABBITMQ_URL", "amqps://a/x?no_verify_ssl=yes", "parameter no_verify_ssl must be 0 or 1"),
        ("RABBITMQ_URL", "amqp://a/x?heartbeat", "a parameter has no value; write name=value"),
        ("RABBITMQ_URL", "amqp://u:%FF@a/x", "the password is not percent-encoded UTF-8; write % as %25"),
        ("REDIS_URL", "redis://:pw@a/3/sessions", "the database must be a number, such as redis://host/0"),
        ("REDIS_URL", "redis://:pw@a/sessions", "the database must be a number, such as redis://host/0"),
        ("REDIS_URL", "redis://a/-1", "the database must be a number, such as redis://host/0"),
        ("REDIS_URL", "redis://pw@a/0", "a user without a password; a password alone is written as redis://:password@"),
        ("REDIS_URL", "redis://a/0?decode_responses=true", "parameter decode_responses is unknown; known: db, ssl_"),
        ("REDIS_URL", "redis://a/1?db=2", "names the database twice"),
        ("REDIS_URL", "rediss://a/1?ssl_cert_reqs=CERT_NONE", "parameter ssl_cert_reqs must be required, optional or"),
        ("REDIS_URL", "unix://", "must name a socket and no host, such as unix:///run/redis.sock"),
        ("SMTP_URL", "smtps://user@mail.example", "incomplete login; give user and password, or neither"),
        ("SMTP_URL", "smtp://mail.example?timeout=3", "text after host and port"),
        ("POCKETWATCH_SITE_URL", "https://shop.example:x/", "the port must be a number from 1 to 65535"),
        (
            "DATABASE_URL",
            "postgresql:///shop",
            "names no host; use postgresql://host/database, or ?host=/run/postgresql",
        ),
        ("DATABASE_URL", "postgresql://a,b/shop?port=1,2,3", "must name as many ports as hosts, or one"),
        ("DATABASE_URL", "postgresql://?service=shop", "parameter service is unknown; known: host, hostaddr, port,"),
        ("DATABASE_URL", "postgresql://a/shop?search_path=x", "parameter search_path is unknown; known: host, "),
        (
            "DATABASE_URL",
            "postgresql://a/shop?sslmode=require&channel_binding=require",
            "parameter channel_binding must be disable or prefer; the driver has no channel binding",
        ),
        ("DATABASE_URL", "postgresql://a/shop?sslmode=perhaps", "parameter sslmode must be disable, allow, prefer, re"),
        ("DATABASE_URL", "postgresql://a/shop?gssencmode=require", "parameter gssencmode must be disable or prefer"),
        (
            "DATABASE_URL",
            "postgresql://a/shop?connect_timeout=soon",
            "parameter connect_timeout must be a whole number",
        ),
        ("DATABASE_URL", "postgresql://a/shop?sslmode=allow&sslmode=require", "sslmode is given twice"),
        ("DATABASE_URL", "postgresql://a/shop?sslmode=verify-full&hostaddr=127.0.0.1", "parameter hostaddr cannot be"),
    ],
)
def test_what_a_client_would_misunderstand_is_refused_by_name(tmp_path: Path, name: str, url: str, words: str):
    assert words in refused(tmp_path, **{name: url})


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=prefer",
        "gssencmode=disable",
        "sslsni=1",
        "fallback_application_name=x",
        "client_encoding=utf8",
        "load_balance_hosts=disable",
    ],
)
def test_parameters_that_ask_for_what_happens_anyway_are_accepted(query: str):
    with_it, without = parse_postgresql(f"postgresql://a/shop?{query}"), parse_postgresql("postgresql://a/shop")

    assert with_it.arguments == without.arguments
    assert with_it.server_settings == without.server_settings == {}


def test_parameters_of_libpq_reach_the_driver():
    server = parse_postgresql(
        "postgresql://me:p%40ss@a:1,b/shop?connect_timeout=3&options=-c%20work_mem%3D1MB&application_name=shop"
        "&keepalives_idle=30&target_session_attrs=read-write&sslmode=verify-full&sslrootcert=/ca.pem"
    )

    assert server.arguments["host"] == ["a", "b"]
    assert server.arguments["port"] == [1, 5432]
    assert (server.arguments["user"], server.arguments["password"]) == ("me", "p@ss")
    assert server.arguments["database"] == "shop"
    assert server.arguments["target_session_attrs"] == "read-write"
    assert server.arguments["dsn"] == "postgresql://?sslmode=verify-full&sslrootcert=%2Fca.pem"
    assert server.server_settings == {"options": "-c work_mem=1MB", "application_name": "shop"}
    assert (server.connect_timeout, server.keepalive) == (3.0, {"keepalives_idle": 30})


@pytest.mark.parametrize("url", ["postgresql://me@%2Frun%2Fpg/shop", "postgresql://me@/shop?host=/run/pg"])
def test_socket_of_postgresql_may_be_named_in_two_ways(url: str):
    server = parse_postgresql(url)

    assert server.arguments["host"] == ["/run/pg"]
    assert server.is_local


def test_hostaddr_replaces_the_host():
    assert parse_postgresql("postgresql://name.invalid/shop?hostaddr=127.0.0.1").arguments["host"] == ["127.0.0.1"]


@pytest.mark.parametrize("password", ["plain", "p@ss", "p:a:s,s", "per%zent", "100%", "/?#@ %2F", "пароль"])
@pytest.mark.parametrize("vhost", ["/", "shop", "a/b", "ü %25"])
async def test_broker_client_understands_what_the_settings_do(password: str, vhost: str):
    encoded = password if password in {"p@ss", "p:a:s,s", "per%zent"} else quote(password, safe="")
    url = f"amqp://me:{encoded}@[::1]:5671/{quote(vhost, safe='')}"

    (node,) = parse_amqp(url)
    client = aiormq.Connection(with_connection_name(url, "test"), loop=asyncio.get_running_loop())

    assert (node.user, node.password, node.path) == ("me", password, vhost)
    assert (client.url.user, client.url.password, client.vhost) == ("me", password, vhost)
    assert (client.url.host, client.url.port) == node.hosts[0] == ("::1", 5671)


def test_each_redis_scheme_leads_to_its_server():
    assert parse_redis("redis://a").options == {
        "db": 0,
        "username": None,
        "password": None,
        "host": "a",
        "port": 6379,
        "ssl": False,
    }
    tls = parse_redis("rediss://me:pw@[::1]:1/3?ssl_cert_reqs=none&ssl_check_hostname=false")
    assert tls.options["ssl"]
    assert (tls.options["ssl_cert_reqs"], tls.options["ssl_check_hostname"]) == ("none", False)
    assert tls.address == "[::1]:1/3"
    assert parse_redis("unix://:pw@/run/redis.sock?db=2").options == {
        "db": 2,
        "username": None,
        "password": "pw",
        "unix_socket_path": "/run/redis.sock",
    }


def test_address_is_shown_without_the_login():
    assert address("amqp://u:a,b@one:5672/x,amqp://u:c@[::1]/x") == "one:5672,[::1]"
    assert address("postgresql://u:p@a:1,b/x") == "a:1,b"
    assert address("postgresql://u:p@/x?host=/run") == "a local socket"
