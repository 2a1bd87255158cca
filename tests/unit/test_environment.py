"""Variables and files that the drivers read by themselves are checked when the settings are loaded."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from consumers.moderation.review import classifier
from consumers.moderation.rules.model import AdText
from consumers.rates import http
from pocketwatch import settings
from pocketwatch.errors import SettingsError
from pocketwatch.settings.files import read_dotenv
from tests.fixtures.servers import ROOT, clean_environment

DATABASE = "postgresql://me:pw@127.0.0.1:1/shop"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with an empty folder for PostgreSQL's files."""
    (tmp_path / ".postgresql").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def refused(folder: Path, **environment: str) -> str:
    with pytest.raises(SettingsError) as caught:
        settings.load(environment, folder=folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"SSL_CERT_FILE": "/nowhere/ca.pem"},
            'SSL_CERT_FILE is "/nowhere/ca.pem", which cannot be used: No such file or directory; name a readable PEM',
        ),
        ({"SSL_CERT_FILE": __file__}, "which cannot be used: NO_CERTIFICATE_OR_CRL_FOUND; name a readable PEM file"),
        ({"SSL_CERT_FILE": "/"}, 'SSL_CERT_FILE is "/", which cannot be used: Is a directory'),
        ({"SSL_CERT_DIR": "/nowhere"}, 'SSL_CERT_DIR is "/nowhere": no folder with certificates; name one that'),
        ({"SSLKEYLOGFILE": "/nowhere/keys"}, 'SSLKEYLOGFILE is "/nowhere/keys", which cannot be written: No such file'),
        ({"ALL_PROXY": "socks5://me:hush@proxy:1080"}, 'ALL_PROXY is "socks5://me:***@proxy:1080": SOCKS is not'),
        ({"https_proxy": "socks5h://proxy:1080"}, 'https_proxy is "socks5h://proxy:1080": SOCKS is not supported; use'),
        ({"HTTPS_PROXY": "ftp://proxy"}, 'HTTPS_PROXY is "ftp://proxy": not a proxy; use a URL such as http://proxy.'),
        ({"HTTPS_PROXY": "http://u:hush#x@proxy"}, 'HTTPS_PROXY is "http://***@proxy": not a proxy; use a URL such as'),
        ({"HTTP_PROXY": "http://proxy:port"}, 'HTTP_PROXY is "http://proxy:***": not a proxy'),
        ({"PGSSLMODE": "perhaps"}, 'PGSSLMODE is "perhaps": parameter sslmode must be disable, allow, prefer, require'),
        ({"PGPORT": "x"}, 'PGPORT is "x": parameter port must be a number from 1 to 65535'),
        ({"PGTARGETSESSIONATTRS": "rw"}, 'PGTARGETSESSIONATTRS is "rw": parameter target_session_attrs must be any,'),
        (
            {"DATABASE_URL": "postgresql://127.0.0.1/shop?sslmode=verify-full&sslrootcert=/nowhere/ca.pem"},
            'DATABASE_URL: parameter sslrootcert is "/nowhere/ca.pem", which cannot be used: No such file or directory',
        ),
        (
            {"DATABASE_URL": f"{DATABASE}?sslmode=require", "PGSSLROOTCERT": __file__},
            f'DATABASE_URL: PGSSLROOTCERT is "{__file__}", which cannot be used: NO_CERTIFICATE_OR_CRL_FOUND',
        ),
        (
            {"DATABASE_URL": DATABASE, "PGSSLCERT": "/nowhere/me.crt"},
            'DATABASE_URL: PGSSLCERT is "/nowhere/me.crt", which cannot be used: No such file or directory',
        ),
        (
            {"DATABASE_URL": "postgresql://me@127.0.0.1/shop", "PGPASSFILE": "/nowhere/pgpass"},
            'DATABASE_URL: PGPASSFILE is "/nowhere/pgpass", which cannot be read: No such file or directory',
        ),
        (
            {"RABBITMQ_URL": "amqps://a/x,amqps://b/x?cafile=/nowhere/ca.pem"},
            'RABBITMQ_URL: parameter cafile is "/nowhere/ca.pem", which cannot be used: No such file or directory',
        ),
        (
            {"REDIS_URL": "rediss://a/0?ssl_certfile=/nowhere/me.crt"},
            'REDIS_URL: parameter ssl_certfile is "/nowhere/me.crt", which cannot be used: No such file or directory',
        ),
        (
            {"POCKETWATCH_DJANGO_CACHE": "rediss://a/0?prefix=autoria&ssl_ca_certs=/nowhere/ca.pem"},
            'POCKETWATCH_DJANGO_CACHE: parameter ssl_ca_certs is "/nowhere/ca.pem", which cannot be used: No such file',
        ),
    ],
)
def test_what_a_driver_cannot_use_is_refused_at_once(tmp_path: Path, environment: dict[str, str], words: str):
    found = refused(tmp_path, **environment)

    assert words in found
    assert "hush" not in found


def test_entry_of_no_proxy_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_PROXY", "localhost,[::1]")
    monkeypatch.delenv("no_proxy", raising=False)

    words = refused(tmp_path, NO_PROXY="localhost,[::1]")

    assert words.startswith('NO_PROXY is "localhost,[::1]": an entry is wrong; list host names and addresses')


@pytest.mark.parametrize("name", ["postgresql.crt", "root.crt", "root.crl"])
def test_broken_default_file_of_the_database_driver_is_refused(home: Path, name: str):
    (home / ".postgresql" / name).write_text("no certificate")

    words = refused(home, DATABASE_URL=f"{DATABASE}?sslmode=require")

    assert f'DATABASE_URL: the driver\'s default file is "{home}/.postgresql/{name}", which cannot be used' in words
    assert settings.load({"DATABASE_URL": f"{DATABASE}?sslmode=disable"}, folder=home)


def test_missing_default_files_of_the_database_driver_are_no_problem(home: Path):
    (home / ".postgresql").rmdir()

    assert settings.load({"DATABASE_URL": f"{DATABASE}?sslmode=require"}, folder=home).database_url


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("GRACE=1s\n".encode("utf-16"), "cannot be read: it is not UTF-8 text, but perhaps UTF-16; save it as UTF-8"),
        ("GRACE=1s\n".encode("utf-16-le"), "cannot be read: it is not UTF-8 text, but perhaps UTF-16; save it as UTF"),
        ("# слово\n".encode("cp1251"), "cannot be read: it is not UTF-8 text (byte 3); save it as UTF-8"),
        (b"\nREDIS_URL redis://:hush@a/0\n", "line 2: not an assignment; write NAME=value, and close each quote"),
        (b"POCKETWATCH_GRACE\n", "line 1: not an assignment; write NAME=value"),
        (b"A=1\r\nREDIS_URL='redis://:hush@a/0\r\n", "line 2: not an assignment; write NAME=value, and close each"),
    ],
)
def test_dotenv_that_would_be_misread_is_refused(tmp_path: Path, content: bytes, words: str):
    (tmp_path / ".env").write_bytes(content)

    found = refused(tmp_path)

    assert found.startswith(f'"{tmp_path}/.env" ')
    assert words in found
    assert "hush" not in found


def test_folder_in_place_of_a_dotenv_is_refused(tmp_path: Path):
    (tmp_path / ".env").mkdir()

    assert refused(tmp_path) == f'"{tmp_path}/.env" cannot be read: Is a directory; it must be a readable file'


def test_dotenv_may_be_written_as_people_write_it(tmp_path: Path):
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbfexport POCKETWATCH_GRACE='90s'  # a comment\r\n"
        b'POCKETWATCH_SITE_NAME="Shop # one"\r\n'
        b"REDIS_URL=redis://:p%23x@a/0 # another\r\n"
        b"OTHER\r\n"
        b"POCKETWATCH_LOG_LEVEL =  DEBUG\r\n"
    )

    loaded = settings.load({}, folder=tmp_path)

    assert loaded.running.grace.total_seconds() == 90
    assert loaded.site.name == "Shop # one"
    assert loaded.servers.redis_url == "redis://:p%23x@a/0"
    assert loaded.logging.level == "DEBUG"


def test_missing_dotenv_has_no_variables(tmp_path: Path):
    assert read_dotenv(tmp_path / "missing/.env", ()) == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "which is empty; write the value into the file"),
        (b" \n", "which is empty; write the value into the file"),
        (b"redis://:h\xffsh@a/0", "which cannot be read: it is not UTF-8 text (byte 11)"),
        ("redis://:hush@a/0".encode("utf-16"), "which cannot be read: it is not UTF-8 text, but perhaps UTF-16"),
    ],
)
def test_file_of_a_secret_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "secret").write_bytes(content)

    assert refused(tmp_path, REDIS_URL_FILE=f"{tmp_path}/secret").startswith(
        f'REDIS_URL_FILE is "{tmp_path}/secret", {words}'
    )


def test_file_of_a_secret_counts_where_the_value_is_empty(tmp_path: Path):
    (tmp_path / "secret").write_bytes(b"\xef\xbb\xbfredis://a/0\r\n")

    loaded = settings.load({"REDIS_URL": "", "REDIS_URL_FILE": f"{tmp_path}/secret"}, folder=tmp_path)

    assert loaded.servers.redis_url == "redis://a/0"
    words = refused(tmp_path, REDIS_URL_FILE=str(tmp_path))
    assert words.endswith("which cannot be read: Is a directory; it must be a readable file")


async def test_proxy_that_cannot_be_used_is_no_outage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")

    with pytest.raises(SettingsError, match="HTTP client: Using SOCKS proxy"):
        await http.get("https://bank.invalid/")
    with pytest.raises(classifier.ClassifierError, match="HTTP client: Using SOCKS proxy"):
        await classifier.ask(
            AdText(title="A car", description="Runs"),
            settings.Moderation.model_validate({"POCKETWATCH_MODERATION_URL": "https://model.invalid/"}),
        )


@pytest.mark.parametrize(
    ("variables", "arguments", "words"),
    [
        ({"SSL_CERT_FILE": "/nowhere/ca.pem", "POCKETWATCH_PATIENCE": "10m"}, ("consume", "rates"), "SSL_CERT_FILE is"),
        ({"DATABASE_URL": "postgresql://me:HEAD/TAIL@a/x"}, ("runs",), "write / ? # and @ in a user or password"),
    ],
)
def test_wrong_environment_is_one_line(
    tmp_path: Path, variables: dict[str, str], arguments: tuple[str, ...], words: str
):
    done = _run(tmp_path, *arguments, **variables)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    # A process logs JSON, a command writes a sentence.
    is_logged = arguments[0] == "consume"
    assert (
        (json.loads(done.stderr)["event"] == "service.failed") if is_logged else done.stderr.startswith("pocketwatch: ")
    )
    assert words in done.stderr
    assert "HEAD" not in done.stderr
    assert "TAIL" not in done.stderr


def test_terminal_of_another_encoding_and_an_unknown_zone_stop_no_command(tmp_path: Path):
    (tmp_path / "schedule.toml").write_text(
        '[[entry]]\nname = "tokens"\ncron = "0 2 * * *"\njob = "cleanup.tokens"\nwhy = "прибирання"\n', "utf-8"
    )

    done = _run(
        tmp_path,
        *("schedule", "list", "--file", "schedule.toml"),
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONCOERCECLOCALE="0",
        PYTHONIOENCODING="ascii",
        TZ="Mars/Base",
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert r"\u043f\u0440\u0438" in done.stdout


def _run(folder: Path, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment(PYTHONPATH=str(ROOT), HOME=str(folder), **variables)
    return subprocess.run(
        [sys.executable, "-m", "pocketwatch", *arguments],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
