"""Write the files of a new job: all of them, or none. `make new-job NAME=views.purge` calls it.

The texts are in the folder `job` beside this file. A group that does not exist yet is written, too.
"""

import keyword
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from console.grants import NAMES
from consumers.app import GROUPS
from pocketwatch.broker.topology import CELERY, TOPOLOGY
from pocketwatch.errors import PocketwatchError
from publishers import schedule
from schemas import ticks
from schemas.catalogue import CATALOGUE

PROJECT = Path(__file__).parents[1]
TEMPLATES = Path(__file__).with_name("job")

NAME = re.compile(r"([a-z][a-z0-9]*)\.([a-z][a-z0-9]*(?:_[a-z0-9]+)*)")
MAX_LENGTH = 32  # of a name; with a longer one, lines of the generated code would not fit
# Modules that mean the same in every group; and what processes, exchanges and queues are called.
RESERVED_VERBS = {"checks", "commands", "privileges", "problems", "queries"}
EXCHANGES = {exchange.name.partition(".")[0] for exchange in TOPOLOGY.all_exchanges}
RESERVED_GROUPS = {"all", "app", CELERY.name, *NAMES, *EXCHANGES} - set(GROUPS)

MESSAGES, SCHEDULE, PRIVILEGES = "schemas/ticks.py", "publishers/schedule.toml", "docs/configuration.md"
COMPOSE, PROMETHEUS = "compose.yaml", "deploy/monitoring/prometheus.yaml"
KUSTOMIZATION, DEPLOYMENT = "deploy/kubernetes/kustomization.yaml", "deploy/kubernetes/consumer-{group}.yaml"
MODEL = "rates"  # the group whose deployment is that of a new one: of jobs only, without volumes
PREFIXES = re.compile(r"(\(wait(?:\|[a-z0-9]+)+)(?=\)\[\.\])")  # of the queues, in patterns of names


@dataclass(frozen=True)
class NewJob:
    """What a job is called, in each place."""

    group: str
    verb: str

    @property
    def name(self) -> str:
        return f"{self.group}.{self.verb}"

    @property
    def words(self) -> list[str]:
        """`views.purge` purges views; `maintenance.archive_ads` says itself what it archives."""
        words = self.verb.split("_")
        return words if len(words) > 1 else [self.verb, self.group]

    @property
    def message(self) -> str:
        return "".join(map(str.capitalize, self.words))

    @property
    def handler(self) -> str:
        return "_".join(self.words)

    @property
    def entry(self) -> str:
        return "-".join([*self.words, "daily"])

    @property
    def folder(self) -> str:
        return f"consumers/{self.group}/{self.verb}"

    @property
    def test(self) -> str:
        return f"tests/integration/test_{self.group}_{self.verb}.py"

    def fill_in(self, template: str) -> str:
        text = (TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")
        return Template(text).substitute(
            group=self.group,
            verb=self.verb,
            job=self.name,
            message=self.message,
            handler=self.handler,
            entry=self.entry,
            folder=self.folder,
            test=self.test,
            sentence=f"{' '.join(self.words).capitalize()}.",
        )


def named(name: str) -> NewJob:
    """Return the job of this name, in the project as it is.

    Raises:
        PocketwatchError: when the name cannot be used.
    """
    job = NewJob(*_parts(name))
    if name in CATALOGUE or TOPOLOGY.queue(name):
        raise refused(name, "exists already", "choose another verb")
    for path in (job.folder, f"{job.folder}.py", job.test):
        if (PROJECT / path).exists():
            raise refused(name, f"{path} exists already", "choose another verb")
    if hasattr(ticks, job.message) or job.message in {each.__name__ for each in CATALOGUE.values()}:
        raise refused(name, f"its message would be {job.message}, which exists already", "choose another verb")
    if job.entry in {each.name for each in schedule.load(schedule.DEFAULT).entries}:
        raise refused(name, f"its entry would be {job.entry}, which exists already", "choose another verb")
    return job


def _parts(name: str) -> tuple[str, str]:
    found = NAME.fullmatch(name)
    if found is None:
        raise refused(name, "not a group and a verb", "write both in lower-case letters, as in NAME=views.purge")
    if len(name) > MAX_LENGTH:
        raise refused(name, f"longer than {MAX_LENGTH} characters", "shorten it")
    group, verb = found.groups()
    for word in (group, verb):
        if keyword.iskeyword(word):
            raise refused(name, f'"{word}" is a keyword of Python', "choose another word")
    if group in RESERVED_GROUPS:
        raise refused(name, f'"{group}" has another meaning', f"choose another group, or one of {', '.join(GROUPS)}")
    if verb in RESERVED_VERBS:
        raise refused(name, f'"{verb}" is a module with another meaning in each group', "choose another verb")
    return group, verb


def refused(name: str, reason: str, remedy: str) -> PocketwatchError:
    return PocketwatchError(f'NAME "{name}": {reason}; {remedy}')


def files_of(job: NewJob) -> dict[str, str]:
    """Return the new content of each file that the job needs, by its path in the project."""
    files = {
        f"{job.folder}/__init__.py": "",
        f"{job.folder}/{job.verb}.py": job.fill_in("handler"),
        f"{job.folder}/queries.py": job.fill_in("queries"),
        job.test: job.fill_in("test"),
        MESSAGES: with_block(
            MESSAGES, job.fill_in("message"), beside=[f': ClassVar[str] = "{job.group}.', "class "], gap=3
        ),
        SCHEDULE: with_block(SCHEDULE, job.fill_in("entry"), beside=[f'job = "{job.group}.', "[[entry]]"], gap=2),
    }
    return files if job.group in GROUPS else files | files_of_group(job)


def files_of_group(job: NewJob) -> dict[str, str]:
    return {
        f"consumers/{job.group}/__init__.py": "",
        f"consumers/{job.group}/privileges.py": job.fill_in("privileges"),
        COMPOSE: with_block(COMPOSE, job.fill_in("service"), beside=['"consume"'], gap=2),
        DEPLOYMENT.format(group=job.group): re.sub(rf"\b{MODEL}\b", job.group, read(DEPLOYMENT.format(group=MODEL))),
        KUSTOMIZATION: with_line(KUSTOMIZATION, f"  - consumer-{job.group}.yaml"),
        PROMETHEUS: with_line(PROMETHEUS, f"          - consumer-{job.group}"),
        PRIVILEGES: PREFIXES.sub(rf"\1|{job.group}", read(PRIVILEGES)),
    }


def with_block(path: str, block: str, *, beside: Sequence[str], gap: int) -> str:
    """Return a file with a block after the last one that contains the first of these texts that is there at all.

    Args:
        gap: how many line ends separate two blocks.
    """
    blocks = read(path).rstrip("\n").split("\n" * gap)
    for text in beside:
        if found := [number for number, each in enumerate(blocks) if text in each]:
            blocks.insert(found[-1] + 1, block.rstrip("\n"))
            return ("\n" * gap).join(blocks) + "\n"
    raise PocketwatchError(f'{path}: contains no "{beside[-1]}" after which to add the new one; restore the file')


def with_line(path: str, line: str) -> str:
    """Return a file with a line about a group, sorted among those about the others."""
    lines, start = read(path).splitlines(), line[: line.index("consumer-")]
    found = [number for number, each in enumerate(lines) if each.startswith(f"{start}consumer-")]
    if not found:
        raise PocketwatchError(f'{path}: contains no line like "{line.strip()}"; restore the file')
    lines.insert(next((number for number in found if lines[number] > line), found[-1] + 1), line)
    return "\n".join(lines) + "\n"


def read(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


def write(files: Mapping[str, str]) -> None:
    """Write these files; after an error, restore what was there before."""
    contents = {PROJECT / path: text for path, text in files.items()}
    before = {path: path.read_text(encoding="utf-8") for path in contents if path.exists()}
    new_folders = [folder for path in contents for folder in path.parents if not folder.exists()]
    written: list[Path] = []
    try:
        for path, text in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            written.append(path)
            path.write_text(text, encoding="utf-8")
    except OSError:
        for path in written:
            if path in before:
                path.write_text(before[path], encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        for folder in new_folders:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def main() -> int:
    try:
        job = named(" ".join(sys.argv[1:]))
        files = files_of(job)
        write(files)
    except (PocketwatchError, OSError) as error:
        print(f"new-job: {error}; nothing is written", file=sys.stderr)
        return 1
    print(*sorted(files), "", job.fill_in("next"), sep="\n", end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
