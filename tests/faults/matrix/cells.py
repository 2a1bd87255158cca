"""One cell of the matrix: work, faults at a step boundary, recovery, and the count."""

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from pocketwatch.broker.publisher import Publisher
from pocketwatch.stack.stack import Stack
from tests.faults.matrix.armed import folder_of
from tests.faults.matrix.boundaries import Boundary
from tests.faults.matrix.parts import PARTS, Command, Counts, Part, Site
from tests.fixtures.suite import Process
from tests.support.waiting import eventually

ARMED = "tests.faults.matrix.armed"
TRICKLE = 12  # messages, every fifth of a second, for as long as faults are to come
MAX_DELAY = 1.0  # seconds until a fault is armed, so that it strikes at any moment of the work
STRIKES_WITHIN = 240.0  # seconds
GETS_ON_WITHIN = 240.0  # seconds in which some of what is left is done
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}
SERVER_STOPS = {"postgres": signal.SIGINT}  # by which it does not wait until all sessions end
OWN = "process"


@dataclass(frozen=True)
class Cell:
    """What happens to whom, and when.

    Args:
        boundaries: of one part; at each of them, faults strike.
        target: whom they hit: the process that reaches the boundary, or a server.
        fault: `kill` (SIGKILL), `freeze` (SIGSTOP, and SIGCONT later), `stop` (SIGTERM).
    """

    part: str
    boundaries: tuple[Boundary, ...]
    target: str
    fault: str

    def row(self) -> dict[str, Any]:
        boundaries = [f"{each.side} {each.step}" for each in self.boundaries]
        return {"part": self.part, "boundaries": boundaries, "target": self.target, "fault": self.fault}

    def __str__(self) -> str:
        where = str(self.boundaries[0]) if len(self.boundaries) == 1 else f"{self.part}: every boundary"
        return f"{where}, {self.target} {self.fault}"


@dataclass
class Result:
    """What was counted; `recovered` is work that was unfinished when a fault struck, and got done."""

    cell: Cell
    seed: int
    faults: int
    counts: Counts
    recovered: int
    seconds: float
    problems: list[str] = field(default_factory=list)
    reasons: dict[str, int] = field(default_factory=dict)  # of dead letters

    @property
    def is_good(self) -> bool:
        return is_good(self.row())

    @property
    def summary(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in asdict(self.counts).items() if count)
        parts = (
            f"{self.faults} faults",
            counts,
            f"{self.recovered} recovered",
            f"{self.seconds:.0f} s",
            *self.problems,
            *(f"{count} × {reason}" for reason, count in self.reasons.items()),
        )
        return ", ".join(filter(None, parts))

    def row(self) -> dict[str, Any]:
        return {
            **self.cell.row(),
            "seed": self.seed,
            "faults": self.faults,
            **asdict(self.counts),
            "recovered": self.recovered,
            "seconds": round(self.seconds, 1),
            "problems": self.problems,
        }


def is_good(row: dict[str, Any]) -> bool:
    """Whether a result, as stored, has nothing that must not happen."""
    return not (row["lost"] or row["doubled"] or row["unexpected"] or row["problems"])


class SharedServer:
    """A server that is struck when all cells that share it have a process at their boundary.

    Args:
        target: the server.
        fault: see `Cell`.
        members: how many cells share it.
    """

    def __init__(self, stack: Stack, target: str, fault: str, *, members: int, freeze: timedelta) -> None:
        self._stack, self._target, self._fault, self._freeze = stack, target, fault, freeze.total_seconds()
        self._members = members
        self._stopped: dict[int, asyncio.Future[None]] = {}  # processes at their boundary

    async def strike(self, pid: int) -> None:
        """Wait until the server is struck and is there again; the process, which is stopped, goes on."""
        self._stopped[pid] = asyncio.get_running_loop().create_future()
        done = self._stopped[pid]
        await self._strike_if_all_are_there()
        await done

    async def leave(self) -> None:
        """Strike without this cell from now on."""
        self._members -= 1
        await self._strike_if_all_are_there()

    async def _strike_if_all_are_there(self) -> None:
        if not self._stopped or len(self._stopped) < self._members:
            return
        stopped, self._stopped = self._stopped, {}
        try:
            await self._strike(list(stopped))
        except Exception as error:  # noqa: BLE001  it is the problem of each cell
            for future in stopped.values():
                future.set_exception(error)
            return
        for future in stopped.values():
            future.set_result(None)

    async def _strike(self, stopped: Sequence[int]) -> None:
        pid = self._stack.pid(self._target)
        assert pid is not None, f"{self._target} does not run"
        os.kill(pid, SERVER_STOPS.get(self._target, signal.SIGTERM) if self._fault == "stop" else SIGNALS[self._fault])
        if self._fault == "kill":  # nothing that a process does next finds it alive
            await eventually(partial(_is_in_state, pid, "gone", "Z"), within=60)
        for each in stopped:
            os.kill(each, signal.SIGCONT)
        if self._fault == "freeze":
            await asyncio.sleep(self._freeze)
            os.kill(pid, signal.SIGCONT)
        else:
            await eventually(partial(_is_in_state, pid, "gone", "Z"), within=60)
            await asyncio.to_thread(self._stack.up)


class Running:
    """A cell at work."""

    def __init__(
        self, cell: Cell, site: Site, server: SharedServer | None, *, repetitions: int, seed: int, freeze: float
    ) -> None:
        self._cell, self._site, self._server, self._freeze = cell, site, server, freeze
        self._boundaries = list(cell.boundaries) * repetitions  # of each fault
        self._seed, self._random = seed, random.Random(f"{seed} {cell}")  # noqa: S311
        self._part: Part = PARTS[cell.part](site)
        self._folder = site.program.folder
        self._processes: list[Process] = []
        self._armed: dict[int, Process] = {}
        self._unfinished: set[str] = set()
        self._problems: list[str] = []
        self._has_struck = [asyncio.Event() for _ in self._boundaries]
        self.struck = 0

    async def run(self) -> Result:
        began = time.monotonic()
        await self._part.prepare()
        async with self._site.publisher() as publisher:
            await self._start()
            load = asyncio.create_task(self._load(publisher))
            try:
                await (self._strike_processes() if self._server is None else self._strike_server(self._server))
            finally:
                load.cancel()
                with suppress(asyncio.CancelledError):
                    await load
            await self._part.ask(publisher, TRICKLE)
            await self._drain()
        await self._stop()
        counts = await self._part.counts()
        left = self._part.asked - set(await self._part.effects())
        return Result(
            self._cell,
            self._seed,
            self.struck,
            counts,
            len(self._unfinished - left),
            time.monotonic() - began,
            self._problems,
            dict(self._part.reasons),
        )

    async def _start(self) -> None:
        """Start the processes that strike, and what else must run; either of two may reach what strikes a server."""
        count = len(self._boundaries) if self._server is None else 2
        armed = [self._launch((ARMED, str(self._folder), self._cell.part, *self._part.armed)) for _ in range(count)]
        self._armed = {process.popen.pid: process for process in armed}
        await self._until_started(*armed)  # before the others, as the queue of a job has one active consumer, the first
        self._processes = [self._launch(each) for each in self._part.beside]
        await self._until_started(*self._processes)

    async def _until_started(self, *processes: Process) -> None:
        for process in processes:
            await asyncio.to_thread(_until_started, process)

    def _launch(self, command: Command) -> Process:
        module, *arguments = command
        return self._site.program.start(*arguments, module=module, **self._part.environment)

    async def _load(self, publisher: Publisher) -> None:
        while True:
            await self._part.ask(publisher, TRICKLE)
            await asyncio.sleep(0.2)

    async def _arm(self, number: int) -> None:
        await asyncio.sleep(self._random.random() * MAX_DELAY)
        new = self._folder / f"arming-{number}"
        is_own = self._server is None
        new.write_text(json.dumps({"signal": SIGNALS[self._cell.fault if is_own else "freeze"], "once": is_own}))
        target = folder_of(self._folder, self._boundaries[number])
        target.mkdir(parents=True, exist_ok=True)
        new.rename(target / str(number))

    async def _strikes(self, number: int) -> int:
        """Wait until the fault has happened, and return the process in which it did."""
        file = self._folder / f"struck-{number}"

        async def struck() -> bool:
            return file.exists()

        # Others may have to wait for the locks of each process that is frozen.
        frozen = self._freeze * len(self._boundaries) if self._server is None else 0
        await eventually(struck, within=STRIKES_WITHIN + frozen)
        self.struck += 1
        strike = json.loads(file.read_text())
        self._unfinished |= await self._part.unfinished(datetime.fromtimestamp(strike["at"], UTC))
        return int(strike["pid"])

    async def _strike_processes(self) -> None:
        numbers = range(len(self._boundaries))
        await asyncio.gather(*map(self._strike_process, numbers), self._take_over())

    async def _take_over(self) -> None:
        """Start another process when all have struck, while those that are frozen still are."""
        for event in self._has_struck:
            await event.wait()
        self._processes.append(self._launch(self._part.armed))
        await self._until_started(self._processes[-1])

    async def _strike_process(self, number: int) -> None:
        await self._arm(number)
        try:
            pid = await self._strikes(number)
        finally:
            self._has_struck[number].set()
        process = self._armed[pid]
        if self._cell.fault == "freeze":
            await eventually(lambda: _is_in_state(pid, "T"))
            await asyncio.sleep(self._freeze)
            os.kill(pid, signal.SIGCONT)
            self._processes.append(process)
            return
        code = await asyncio.to_thread(process.popen.wait, 60)
        expected = -signal.SIGKILL if self._cell.fault == "kill" else 0
        if code != expected:
            self._problems.append(f"process {pid} ended with {code}: {process.output()[-1:]}")

    async def _strike_server(self, server: SharedServer) -> None:
        self._processes += self._armed.values()
        for number in range(len(self._boundaries)):
            await self._arm(number)
            pid = await self._strikes(number)
            await eventually(lambda pid=pid: _is_in_state(pid, "T"))
            await server.strike(pid)
            await asyncio.sleep(1 + self._random.random())

    async def _drain(self) -> None:
        """Wait until nothing is left to do, or nothing is done any more."""
        left, end = await self._part.pending(), time.monotonic() + GETS_ON_WITHIN
        while left and time.monotonic() < end:
            await self._part.drain()
            await asyncio.sleep(1)
            before, left = left, await self._part.pending()
            if len(left) < len(before):
                end = time.monotonic() + GETS_ON_WITHIN
        await asyncio.sleep(1)  # a second effect would be there now

    async def _stop(self) -> None:
        for process in self._processes:
            if (code := process.popen.poll()) is not None:
                self._problems.append(f"a process has ended with {code}: {process.output()[-1:]}")
                continue
            process.popen.terminate()
        for process in self._processes:
            if code := await asyncio.to_thread(process.popen.wait, 60):
                self._problems.append(f"a process that was asked to stop ended with {code}: {process.output()[-1:]}")
        for process in (*self._processes, *self._armed.values()):
            self._problems += [f"not JSON: {line[:200]}" for line in process.output()[:-1] if not line.startswith("{")]


async def run_cell(
    cell: Cell, site: Site, *, repetitions: int, seed: int, freeze: timedelta, server: SharedServer | None = None
) -> Result:
    """Let so many faults happen, and count; a cell that cannot be run to its end is a problem of its own.

    Args:
        server: what is struck; None for the process that reaches the boundary.
    """
    began = time.monotonic()
    running = Running(cell, site, server, repetitions=repetitions, seed=seed, freeze=freeze.total_seconds())
    try:
        return await running.run()
    except Exception as error:  # noqa: BLE001  the other cells are run all the same
        problem = f"{type(error).__name__}: {error}"
        return Result(cell, seed, running.struck, Counts(), 0, time.monotonic() - began, [problem])
    finally:
        if server is not None:
            await server.leave()


def _until_started(process: Process) -> None:
    command = process.popen.args
    assert isinstance(command, list)
    process.until("publishers.started" if "publish" in command else "consumers.started", within=120)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "gone"


async def _is_in_state(pid: int, *states: str) -> bool:
    return _state(pid) in states
