"""The executors against a model: deliveries, duplicates, failures, crashes and lost connections in any order.

`make model` tries more, in another order each time: make model EXAMPLES=500 SEED=7
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal, NamedTuple

import psycopg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from sqlalchemy.exc import DBAPIError

from pocketwatch.errors import Reject, RetryLater
from pocketwatch.settings import Settings
from pocketwatch.storage import run_log
from pocketwatch.storage.database import Database
from pocketwatch.storage.tables.suite import inbox, outbox, update_logs
from pocketwatch.worker.context import EventContext
from pocketwatch.worker.error_handling import text_of
from pocketwatch.worker.executors import BatchExecutor, Handler, JobExecutor, SideEffectExecutor
from pocketwatch.worker.retry_policy import DeadLetter, Retry, next_step
from schemas.envelope import Envelope, Trigger, derive_id
from tests.support.ledger import NO_SUCH_OWNER, Event, Noted, ledger, make_tables

EXAMPLES = int(os.environ.get("EXAMPLES", "20"))
STEPS = 20
DEADLINE = 20.0  # seconds for a step
WORKER = "model-worker"  # the name of its connections
EXECUTORS = ("job", "batch", "side_effect")
TRIGGERS: tuple[Trigger, ...] = ("manual", "schedule", "celery")
NOTHING_TO_DO = "there is nothing to do"
# The others end as dead letters.
EXPECTED = (RuntimeError, Reject, RetryLater, DBAPIError)
ENDS = {"write": "succeeded", "later": "succeeded", "skip": "skipped", "partial": "partial"}

Fault = Literal["none", "connection lost", "crash"]
Outcome = str | BaseException


@dataclass(eq=False)
class Sent:
    """A message, as the model knows it."""

    number: int
    executor: str
    id: str
    trigger: Trigger
    event: Event
    handled: bool = False
    calls: int = 0  # of its handler
    was_handled: bool = False  # before the last step
    calls_before: int = 0

    @property
    def end(self) -> str | None:
        """What it ends with when it is handled; None for a dead letter."""
        return ENDS.get(self.event.do)

    def envelope(self, attempt: int) -> Envelope:
        return Envelope(
            message_id=self.id,
            correlation_id=str(self.number),
            exchange="moderation",
            routing_key="test.event",
            trigger=self.trigger,
            attempt=attempt,
        )


class Delivery(NamedTuple):
    """An attempt at a message, which the broker delivers until it has an outcome."""

    sent: Sent
    attempt: int
    is_late: bool = False  # it has been asked to come later

    @property
    def event(self) -> Event:
        return self.sent.event.model_copy(update={"do": "write"}) if self.is_late else self.sent.event

    @property
    def fails(self) -> bool:
        return self.attempt <= self.event.fails_until or self.event.do not in {"write", "skip", "partial"}


@dataclass
class Worker:
    """A process: its executors, its connections, and what happens to it."""

    url: str
    settings: Settings
    messages: list[Sent] = field(default_factory=list)
    fault: Fault = "none"
    place: int = 0  # statements and commits until the fault
    happened: bool = False

    def __post_init__(self) -> None:
        self.database = Database(self.url, name=WORKER)
        self._administration = psycopg.connect(self.url, autocommit=True)
        self.deliveries: list[asyncio.Task[Any]] = []
        self.restart()
        for name in ("before_cursor_execute", "commit", "checkin"):
            sa.event.listen(self.database.engine.sync_engine, name, self._reach_place)

    def restart(self) -> None:
        """Start again with new executors, as a new process would."""
        options: tuple[Handler, Database, Settings] = (self.handle, self.database, self.settings)
        self.executors: dict[str, Any] = {
            "job": JobExecutor("job", *options, single_active=True),
            "batch": BatchExecutor("batch", *options, max_batch_size=4),
            "side_effect": SideEffectExecutor("side_effect", *options),
        }

    async def handle(self, event: Event, context: EventContext) -> None:
        sent = self.messages[event.n]
        sent.calls += 1
        if context.envelope.attempt <= event.fails_until:
            raise RuntimeError("this attempt fails")
        if event.do == "reject":
            raise Reject("this cannot help")
        if event.do == "later":
            raise RetryLater("another session is busy", after=timedelta(seconds=1))
        if event.do == "skip":
            return context.mark_skipped(NOTHING_TO_DO)
        word = "x" * 21 if event.do == "too_long" else "word"
        owner = NO_SUCH_OWNER if event.do == "orphan" else 0
        context.insert(ledger, message_id=context.message_id, n=event.n, word=word, owner=owner)
        context.publish(Noted(n=event.n))
        if event.do == "partial":
            context.mark_partial("not all of it")
        return None

    async def deliver(self, deliveries: Sequence[Delivery], fault: Fault, place: int) -> list[Outcome]:
        """Deliver these at the same time; return the outcome of each, CancelledError where it has none."""
        self.fault, self.place, self.happened = fault, place, False
        self.deliveries = [
            asyncio.create_task(self.executors[each.sent.executor].handle(each.sent.envelope(each.attempt), each.event))
            for each in deliveries
        ]
        async with asyncio.timeout(DEADLINE):
            outcomes = await asyncio.gather(*self.deliveries, return_exceptions=True)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others, return_exceptions=True)
        self.fault = "none"
        if fault == "crash" and self.happened:
            self.restart()
        return outcomes

    def _reach_place(self, *_: Any) -> None:
        if self.fault == "none" or self.happened:
            return
        self.place -= 1
        if self.place >= 0:
            return
        self.happened = True
        if self.fault == "connection lost":
            self._administration.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = %s",
                [WORKER],
            )
        else:
            asyncio.get_running_loop().call_soon(self._crash)

    def _crash(self) -> None:
        for delivery in self.deliveries:
            delivery.cancel()
        for name in ("batch", "side_effect"):
            self.executors[name].close()

    async def close(self) -> None:
        self._administration.close()
        await self.database.close()


@dataclass
class Stored:
    """What the database holds."""

    claims: list[Any]
    effects: Counter[int]
    published: Counter[int]
    runs: list[Any]

    def ends(self, sent: Sent) -> list[str]:
        """Return with what a message was handled, once for each row of the run log that says so."""
        rows = (row for row in self.runs if row.correlation_id == str(sent.number))
        return [row.status for row in rows if row.status in {"succeeded", "partial"} or row.error == NOTHING_TO_DO]


class Model(RuleBasedStateMachine):
    """Publishes and delivers messages, and compares what is there with what must be."""

    worker: Worker
    observer: Database
    runner: asyncio.Runner

    @initialize()
    def empty(self) -> None:
        self.sent: dict[tuple[str, str, str], Sent] = {}
        self.waiting: list[Delivery] = []
        self.settled: list[Delivery] = []
        self.worker.messages.clear()
        self.worker.restart()
        self.runner.run(self._empty())

    async def _empty(self) -> None:
        async with self.observer.begin() as connection:
            await connection.execute(sa.text("TRUNCATE inbox, outbox, update_logs, ledger"))

    @rule(
        executors=st.sets(st.sampled_from(EXECUTORS), min_size=1),
        message_id=st.sampled_from(["a", "b", "c"]),
        trigger=st.sampled_from(TRIGGERS),
        do=st.sampled_from(["write", "skip", "partial", "reject", "later", "too_long", "orphan"]),
        fails_until=st.sampled_from([0, 0, 1, 2]),
    )
    def publish(self, executors: set[str], message_id: str, trigger: Trigger, do: Any, fails_until: int) -> None:
        for executor in sorted(executors):
            number = len(self.worker.messages)
            sent = Sent(number, executor, message_id, trigger, Event(n=number, do=do, fails_until=fails_until))
            if self.sent.setdefault((executor, message_id, trigger), sent) is sent:
                self.worker.messages.append(sent)
                self.waiting.append(Delivery(sent, 1))

    @rule(
        picks=st.lists(st.integers(0, 20), min_size=1, max_size=6),
        fault=st.sampled_from(["none", "connection lost", "crash"]),
        place=st.integers(0, 20),
    )
    def deliver(self, picks: list[int], fault: Fault, place: int) -> None:
        """Deliver messages that wait, and some again that were handled; an equal number twice at the same time."""
        if known := self.waiting + self.settled:
            self._deliver([known[pick % len(known)] for pick in picks], fault, place)

    @rule()
    def restart(self) -> None:
        self.worker.restart()

    def teardown(self) -> None:
        """Deliver everything that waits: each message ends handled, or as a dead letter."""
        if not self.__dict__.get("sent"):
            return
        self.publish({"job"}, "last", "manual", "write", 0)  # what a dead worker has left running is not when it starts
        while self.waiting:
            self._deliver(self.waiting[:6], "none", 0)
        for sent in self.worker.messages:
            assert sent.handled == (sent.end is not None), sent
        assert "running" not in {row.status for row in self.runner.run(self._stored()).runs}

    def _deliver(self, deliveries: list[Delivery], fault: Fault, place: int) -> None:
        for sent in {each.sent for each in deliveries}:
            sent.was_handled, sent.calls_before = sent.handled, sent.calls
        outcomes = self.runner.run(self.worker.deliver(deliveries, fault, place))
        faulty = self.worker.happened
        crashed = faulty and fault == "crash"
        stored = self.runner.run(self._stored())
        for sent in {each.sent for each in deliveries}:
            of_it = [(each, end) for each, end in zip(deliveries, outcomes, strict=True) if each.sent is sent]
            if crashed:
                sent.handled = sent.handled or bool(stored.ends(sent))
            else:
                sent.handled = sent.handled or not all(each.fails for each, _ in of_it)
            self._check_outcomes(sent, of_it, crashed=crashed, faulty=faulty)
        for each, outcome in zip(deliveries, outcomes, strict=True):
            if not isinstance(outcome, asyncio.CancelledError):
                self._settle(each, outcome)
        self._check_stored(self.runner.run(self._stored()))

    def _check_outcomes(
        self, sent: Sent, outcomes: list[tuple[Delivery, Outcome]], *, crashed: bool, faulty: bool
    ) -> None:
        ends = Counter(end for _, end in outcomes if isinstance(end, str))
        newly = sent.handled and not sent.was_handled
        assert set(ends) <= {sent.end, "duplicate"}, (sent, outcomes)
        assert ends[str(sent.end)] == newly or (faulty and newly), (sent, outcomes)
        assert sent.handled or not ends, (sent, outcomes)
        for each, end in outcomes:
            if isinstance(end, asyncio.CancelledError):
                assert crashed, (sent, outcomes)
            elif isinstance(end, BaseException):
                assert each.fails, (sent, outcomes)
                assert isinstance(end, EXPECTED), (sent, end)
        if sent.was_handled and sent.executor != "side_effect":
            assert sent.calls == sent.calls_before, sent
        assert sent.calls or not sent.handled, sent

    def _settle(self, delivery: Delivery, outcome: Outcome) -> None:
        """Do as the worker's error handling does with an attempt that has an outcome."""
        self.settled.append(delivery)
        if delivery in self.waiting:
            self.waiting.remove(delivery)
        if isinstance(outcome, Exception):
            step = next_step(outcome, delivery.attempt)
            self.runner.run(self._log_failure(delivery, outcome, step))
            if isinstance(step, Retry):
                is_late = delivery.is_late or isinstance(outcome, RetryLater)
                self.waiting.append(Delivery(delivery.sent, step.attempt, is_late))

    async def _log_failure(self, delivery: Delivery, error: Exception, step: Retry | DeadLetter) -> None:
        run = run_log.Run(delivery.sent.executor, delivery.sent.envelope(delivery.attempt))
        delay = step.delay_queue.delay if isinstance(step, Retry) else None
        async with self.observer.begin() as connection:
            await run_log.fail(connection, run, step.status, text_of(error), retried_after=delay)

    async def _stored(self) -> Stored:
        async with self.observer.begin() as connection:

            async def rows(*columns: Any) -> list[Any]:
                return list((await connection.execute(sa.select(*columns))).all())

            columns = ("job", "message_id", "attempt", "trigger", "correlation_id", "status", "error")
            return Stored(
                await rows(inbox.c.consumer, inbox.c.message_id),
                Counter(row.n for row in await rows(ledger.c.n)),
                Counter(row.payload["n"] for row in await rows(outbox.c.payload)),
                await rows(*(update_logs.c[name] for name in columns)),
            )

    def _check_stored(self, stored: Stored) -> None:
        handled = [sent for sent in self.worker.messages if sent.handled]
        for sent in self.worker.messages:
            effects = int(sent.handled and sent.end != "skipped")
            assert (stored.effects[sent.number], stored.published[sent.number]) == (effects, effects), (sent, stored)
            assert stored.ends(sent) == [sent.end] * sent.handled, (sent, stored)
        claimed = sorted((sent.executor, _claimed_id(sent, stored)) for sent in handled)
        assert sorted(tuple(row) for row in stored.claims) == claimed, stored
        assert len(set(claimed)) == len(claimed), stored


def _claimed_id(sent: Sent, stored: Stored) -> str:
    """Return the id under which the run log says that it was handled: its own, or one with its trigger."""
    rows = (row for row in stored.runs if row.correlation_id == str(sent.number) and row.job == sent.executor)
    (claimed,) = (
        row.message_id for row in rows if row.status in {"succeeded", "partial"} or row.error == NOTHING_TO_DO
    )
    assert claimed in {sent.id, derive_id(sent.id, sent.trigger)}
    return str(claimed)


# A worker that crashes while it connects leaves its connection to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed connection:ResourceWarning")
@pytest.mark.timeout(60 + 5 * EXAMPLES)
def test_executors_behave_as_their_model(settings: Settings, database_url: str):
    with asyncio.Runner() as runner:
        observer, worker = Database(database_url, name="model"), Worker(database_url, settings)
        runner.run(make_tables(observer))
        model = type("ExecutorModel", (Model,), {"worker": worker, "observer": observer, "runner": runner})
        limits = profile(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize="EXAMPLES" not in os.environ,
            suppress_health_check=list(HealthCheck),
        )
        try:
            run_state_machine_as_test(model, settings=limits)
        finally:
            runner.run(worker.close())
            runner.run(observer.close())
