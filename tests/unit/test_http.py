"""The HTTP port of a process: what it answers, on which address, and that nothing is loaded without one."""

import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from pocketwatch import settings
from pocketwatch.errors import SettingsError
from pocketwatch.monitoring.http import listening
from pocketwatch.settings import Address

PROJECT = Path(__file__).parents[2]
ANY_PORT = Address("127.0.0.1", 0)
LIBRARIES = ("starlette", "prometheus_client", "opentelemetry.sdk")  # FastStream imports uvicorn where it finds it


@asynccontextmanager
async def served(problem: str | None = None, address: Address = ANY_PORT) -> AsyncIterator[httpx.AsyncClient]:
    async def why() -> str | None:
        return problem

    async def metrics() -> bytes:
        return b"up 1\n"

    documents = {"/asyncapi.json": lambda: {"asyncapi": "3.0.0"}}
    async with (
        listening(address, problem=why, metrics=metrics, documents=documents) as bound,
        httpx.AsyncClient(base_url=f"http://{bound}", trust_env=False) as client,
    ):
        yield client


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9100", ("127.0.0.1", 9100)),
        ("9100", ("127.0.0.1", 9100)),
        (":9100", ("127.0.0.1", 9100)),
        ("192.0.2.1:0", ("192.0.2.1", 0)),
        ("localhost:9100", ("localhost", 9100)),
        ("[::1]:9100", ("::1", 9100)),
    ],
)
def test_address_is_on_the_loopback_interface_unless_it_names_another(text: str, address: tuple[str, int], tmp_path):
    assert settings.load({"POCKETWATCH_HTTP": text}, folder=tmp_path).monitoring.http == address


@pytest.mark.parametrize("text", ["everywhere", "127.0.0.1", "127.0.0.1:65536", "a b:1", "http://x:1"])
def test_wrong_address_is_refused(text: str, tmp_path):
    with pytest.raises(SettingsError) as caught:
        settings.load({"POCKETWATCH_HTTP": text}, folder=tmp_path)

    assert str(caught.value).startswith(f'POCKETWATCH_HTTP is "{text}": must be a host and a port, such as 127.0.0.1')


async def test_live_and_ready_process():
    async with served() as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")

    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})


async def test_process_with_a_problem_is_live_and_not_ready():
    async with served("not connected to RabbitMQ") as client:
        live, ready = await client.get("/health/live"), await client.get("/health/ready")

    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (
        503,
        {"status": "not ready", "reason": "not connected to RabbitMQ"},
    )


async def test_metrics_and_documents_have_their_types():
    async with served() as client:
        metrics, document = await client.get("/metrics"), await client.get("/asyncapi.json")

    assert (metrics.text, metrics.headers["content-type"]) == ("up 1\n", "text/plain; version=0.0.4; charset=utf-8")
    assert document.json() == {"asyncapi": "3.0.0"}


async def test_it_shows_nothing_else_and_changes_nothing():
    async with served() as client:
        assert (await client.get("/")).status_code == 404
        assert (await client.post("/health/ready")).status_code == 405
        assert "server" not in (await client.get("/health/live")).headers


async def test_requests_in_ipv6_are_answered():
    async with served(address=Address("::1", 0)) as client:
        assert (await client.get("/health/live")).status_code == 200


async def test_taken_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address(*taken.getsockname()[:2])

        with pytest.raises(SettingsError) as caught:
            async with served(address=address):
                pass

    assert str(caught.value) == (
        f'POCKETWATCH_HTTP is "{address}", where the process cannot listen: Address already in use; '
        "use another port for each process of a machine"
    )


async def test_port_is_free_again_after_the_end():
    async with served() as client:
        address = Address("127.0.0.1", client.base_url.port or 0)

    async with served(address=address) as client:
        assert (await client.get("/health/live")).status_code == 200


def test_process_without_a_port_loads_no_library_for_it():
    code = (
        "import sys, pocketwatch.service, pocketwatch.worker.app, publishers.app, console.cli.main\n"
        f"print([name for name in {LIBRARIES} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
