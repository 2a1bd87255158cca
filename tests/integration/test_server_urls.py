"""What URLs of real servers may say, and what the servers refuse of it."""

import json
import ssl
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from pocketwatch.broker.publisher import Publisher
from pocketwatch.errors import ServerUnreachable, SettingsError
from pocketwatch.storage.database import Database
from pocketwatch.storage.redis import connected
from tests.fixtures.servers import Servers
from tests.fixtures.smtp import Certificates, make_certificates
from tests.fixtures.suite import Program
from tests.support.greeter import greeter

LONG = timedelta(minutes=10)  # a test that waits for it does not end in time


@pytest.mark.parametrize(
    "query",
    [
        "channel_binding=prefer",
        "connect_timeout=10",
        "keepalives=1&keepalives_idle=30",
        "gssencmode=disable",
        "fallback_application_name=x",
        "hostaddr=127.0.0.1",
        "sslsni=1",
        "sslmode=prefer&target_session_attrs=read-write",
    ],
)
async def test_database_is_reached_with_parameters_of_libpq(servers: Servers, query: str):
    url = f"{servers.postgresql('postgres')}?{query}"
    database = Database(url)

    await database.ready(startup_timeout=LONG)

    await database.close()
    psycopg.connect(url.replace("keepalives=1&", "")).close()  # libpq agrees


async def test_parameters_of_libpq_have_their_effect(servers: Servers):
    query = "options=-c%20statement_timeout%3D7s&application_name=shop&keepalives_idle=41&keepalives_count=2"
    database = Database(f"{servers.postgresql('postgres')}?{query}", name="pocketwatch test")

    async with database.begin() as connection:
        settings = ("statement_timeout", "application_name", "timezone")
        found = [(await connection.execute(sa.text(f"SHOW {name}"))).scalar_one() for name in settings]

    assert found == ["7s", "pocketwatch test shop", "UTC"]
    await database.close()


@pytest.mark.parametrize("options", ["-c%20no_such_setting%3D1", "-c%20work_mem%3Dmuch", "--nonsense"])
async def test_server_settings_that_the_database_refuses_are_refused_at_once(servers: Servers, options: str):
    database = Database(f"{servers.postgresql('postgres')}?options={options}")

    with pytest.raises(SettingsError, match="DATABASE_URL cannot be used: "):
        await database.ready(startup_timeout=LONG)

    await database.close()


async def test_redis_database_that_does_not_exist_is_refused(servers: Servers):
    url = servers.urls["REDIS_URL"].rpartition("/")[0] + "/99"

    with pytest.raises(SettingsError, match=r"REDIS_URL names database 99 of 127.0.0.1:\d+/99: DB index is out of"):
        async with connected(url):
            pass


async def test_wrong_password_of_redis_is_not_shown(servers: Servers):
    address = servers.urls["REDIS_URL"].rpartition("@")[2]

    with pytest.raises(ServerUnreachable, match=f"Redis at {address} refuses the login") as refused:
        async with connected(f"redis://:hush@{address}"):
            pass

    assert "hush" not in str(refused.value)


async def test_server_without_tls_is_refused_at_once_where_tls_is_required(servers: Servers):
    database = Database(f"{servers.postgresql('postgres')}?sslmode=require")

    with pytest.raises(ServerUnreachable, match="has no TLS, which sslmode requires"):
        await database.ready(startup_timeout=LONG)

    await database.close()


async def test_server_that_is_not_trusted_is_refused_at_once(certificates: Certificates, tmp_path: Path):
    others = make_certificates(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.chain, certificates.key)

    with greeter(tls=tls) as port:
        query = f"sslnegotiation=direct&sslmode=verify-full&sslrootcert={others.authority}"
        database = Database(f"postgresql://me:hush@127.0.0.1:{port}/x?{query}")
        with pytest.raises(ServerUnreachable, match=r"is not trusted: .*; name its authorities with sslrootcert"):
            await database.ready(startup_timeout=LONG)
        await database.close()

        broker = f"amqps://me:hush@127.0.0.1:{port}/?cafile={others.authority}"
        with pytest.raises(ServerUnreachable, match=r"is not trusted: .*; name its authorities with cafile"):
            await Publisher([broker], role="test", startup_timeout=LONG).__aenter__()


def test_doctor_reports_servers_that_refuse_and_shows_no_password(pocketwatch: Program, servers: Servers):
    redis, postgresql, rabbitmq = (
        servers.urls[name].rpartition("@")[2] for name in ("REDIS_URL", "DATABASE_URL", "RABBITMQ_URL")
    )

    done = pocketwatch(
        *("doctor", "--json"),
        REDIS_URL=servers.urls["REDIS_URL"].rpartition("/")[0] + "/99",
        DATABASE_URL=f"postgresql://stranger:hush%2Fhush@{postgresql}",
        RABBITMQ_URL=f"amqp://stranger:hush%23hush@{rabbitmq}",
        SMTP_URL="smtps://stranger:hush%3Fhush@127.0.0.1:1",
    )

    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    assert "DB index is out of range" in found["redis"]["detail"]
    assert "refuses the login" in found["database"]["detail"]
    assert 'refuses user "stranger" or its password' in found["broker"]["detail"]
    assert redis.split("/")[0] in found["redis"]["detail"]
    assert "hush" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
