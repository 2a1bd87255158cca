"""Contenders alternate, so that other load on the machine affects all of them alike."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from statistics import median
from typing import TypeVar

from bench.servers import Say


@dataclass(frozen=True)
class Sample:
    """One run.

    Args:
        seconds: the work itself.
        wall: including the start of the program, or the way through the broker.
        idle: bytes resident before the work; None for a program that is started for it.
        peak: peak of resident memory, in bytes.
    """

    seconds: float
    peak: int
    idle: int | None = None
    wall: float | None = None


@dataclass(frozen=True)
class Contender:
    """A program that does the work.

    Args:
        run: does it once from the same initial state, and checks that it was done.
        limit: written by hand with the least that does the work: what can be reached, not a peer.
    """

    name: str
    does: str
    run: Callable[[], Sample]
    ours: bool = False
    limit: bool = False


@dataclass(frozen=True)
class Side:
    """Describes a contender; each bench adds how it is started.

    Args:
        package: the peer's, which only `make bench` installs.
    """

    name: str
    does: str
    ours: bool = field(default=False, kw_only=True)
    limit: bool = field(default=False, kw_only=True)
    package: str | None = field(default=None, kw_only=True)


AnySide = TypeVar("AnySide", bound=Side)


def contenders(sides: Iterable[AnySide], measure: Callable[[AnySide], Sample], say: Say) -> list[Contender]:
    """Return the contenders whose packages are installed."""
    found = []
    for side in sides:
        if side.package is not None and find_spec(side.package) is None:
            say(f"  {side.name}: left out, {side.package} is not installed")
            continue
        found.append(Contender(side.name, side.does, partial(measure, side), ours=side.ours, limit=side.limit))
    return found


@dataclass(frozen=True)
class Result:
    """All runs of a contender."""

    contender: Contender
    samples: Sequence[Sample]

    @property
    def seconds(self) -> float:
        return median(sample.seconds for sample in self.samples)

    @property
    def wall(self) -> float | None:
        walls = [sample.wall for sample in self.samples if sample.wall is not None]
        return median(walls) if walls else None

    @property
    def idle(self) -> float | None:
        known = [sample.idle for sample in self.samples if sample.idle is not None]
        return median(known) if known else None

    @property
    def peak(self) -> int:
        return max(sample.peak for sample in self.samples)


def alternate(contenders: Sequence[Contender], *, rounds: int, warm_up: bool, say: Say) -> list[Result]:
    """Run a b c, a b c, …; the warm-up round is not counted."""
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    for number in range(0 if warm_up else 1, rounds + 1):
        for contender in contenders:
            sample = contender.run()
            say(f"  {f'round {number}' if number else 'warm-up'}: {contender.name}: {sample.seconds:.2f} s")
            samples[contender.name] += [sample] * (number > 0)
    return [Result(contender, samples[contender.name]) for contender in contenders]


def ratio(result: Result, results: Sequence[Result]) -> float:
    """Return how many times as fast as the best peer this is."""
    peers = [each.seconds for each in results if not each.contender.ours and not each.contender.limit]
    return min(peers) / result.seconds


def share_of_limit(result: Result, results: Sequence[Result]) -> float | None:
    """Return how many times as fast as the limit this is; None without a limit."""
    limits = [each.seconds for each in results if each.contender.limit]
    return min(limits) / result.seconds if limits else None
