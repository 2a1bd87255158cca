"""The log of a process: every line is JSON, and an orderly stop is no error, even of a run that outlasts the grace."""

import asyncio
import json

from pocketwatch.broker.publisher import Publisher
from pocketwatch.settings import Settings
from publishers import trigger
from schemas.ticks import CleanTokens, UpdateRates
from tests.fixtures.suite import Program, Runs
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

# The frame `Basic.Consume` of a queue, without the rest of its arguments.
CONSUME = b"\x00\x3c\x00\x14\x00\x00\x0crates.update"


async def test_stop_in_the_middle_of_a_long_run_logs_json_and_no_error(
    pocketwatch: Program, publisher: Publisher, runs: Runs
):
    asked = asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        while await reader.read(1_000):
            pass
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as bank:
        url = f"http://127.0.0.1:{bank.sockets[0].getsockname()[1]}/"
        process = pocketwatch.start(
            "consume",
            "rates",
            POCKETWATCH_NBU_URL=url,
            POCKETWATCH_PRIVATBANK_URL=url,
            POCKETWATCH_GRACE="1s",
            POCKETWATCH_LOG_LEVEL="DEBUG",
        )
        await asyncio.to_thread(process.until, "consumers.started")
        envelope = await trigger.publish(publisher, UpdateRates())
        await asyncio.wait_for(asked.wait(), 40)

        code = await asyncio.to_thread(process.stop)

    lines = [json.loads(line) for line in process.output()]
    assert code == 0
    ours = [line for line in lines if not line["logger"].startswith("pocketwatch.watchdog")]  # there are no rates yet
    assert [line for line in ours if line["level"] in {"ERROR", "CRITICAL", "WARNING"}] == []
    assert lines[-1]["event"] == "service.stopped"
    assert {line["version"] for line in lines} == {lines[0]["version"]}
    (row,) = await runs.of(envelope.message_id)
    assert row["status"] == "running"  # until it is delivered again


async def test_stop_in_the_middle_of_the_start_logs_no_error(pocketwatch: Program, settings: Settings, proxy: Proxy):
    proxy.freeze_at(CONSUME)
    process = pocketwatch.start(
        "consume",
        "rates",
        RABBITMQ_URL=proxy.through(settings.rabbitmq_urls[0]),
        POCKETWATCH_LOG_LEVEL="DEBUG",
    )
    await eventually(lambda: is_frozen(proxy), within=40)

    process.popen.terminate()
    await asyncio.to_thread(process.until, "service.stopping")
    proxy.thaw()
    code = await asyncio.to_thread(process.popen.wait, 30)

    lines = [json.loads(line) for line in process.output()]
    assert code == 0
    assert process.lines("consumers.started") == []
    assert [line for line in lines if line["level"] not in {"DEBUG", "INFO"}] == []
    assert lines[-1]["event"] == "service.stopped"


async def is_frozen(proxy: Proxy) -> bool:
    return proxy.is_frozen


def test_error_at_the_start_is_a_line_of_the_log(pocketwatch: Program):
    refused = pocketwatch(
        "consume", "rates", DATABASE_URL="postgresql://no-one@127.0.0.1:9/x", POCKETWATCH_PATIENCE="0s"
    )

    lines = [json.loads(line) for line in refused.stderr.splitlines()]
    assert refused.returncode == 1
    assert (lines[-1]["level"], lines[-1]["event"]) == ("CRITICAL", "service.failed")
    assert lines[-1]["error"].startswith("PostgreSQL at ")


def test_error_in_a_setting_is_a_line_of_the_log(pocketwatch: Program):
    refused = pocketwatch("publish", POCKETWATCH_GRACE="20")

    (line,) = [json.loads(line) for line in refused.stderr.splitlines()]
    assert (refused.returncode, line["event"]) == (1, "service.failed")
    assert 'POCKETWATCH_GRACE is "20"' in line["error"]


def test_error_of_a_command_is_a_sentence(pocketwatch: Program):
    refused = pocketwatch("runs", DATABASE_URL="postgresql://no-one@127.0.0.1:9/x")

    assert refused.stderr.startswith("pocketwatch: PostgreSQL at ")


async def test_faststream_runs_the_consumers(pocketwatch: Program, publisher: Publisher, runs: Runs):
    process = pocketwatch.start("run", "consumers.app:app", module="faststream")
    await asyncio.to_thread(process.until, "consumers.started")

    envelope = await trigger.publish(publisher, CleanTokens(dry_run=True))
    row = await runs.over(envelope.message_id)

    assert row["status"] == "succeeded"
    assert await asyncio.to_thread(process.stop) == 0
    assert process.lines()[-1]["event"] == "service.stopped"
