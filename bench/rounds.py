"""Contenders alternate, so that other load on the machine affects all of them alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

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
    """

    name: str
    does: str
    run: Callable[[], Sample]
    ours: bool = False


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
    return min(each.seconds for each in results if not each.contender.ours) / result.seconds
