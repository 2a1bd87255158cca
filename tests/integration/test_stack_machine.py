"""Several stacks, external servers, other users, and machines that lack something."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from pocketwatch.errors import StackError
from pocketwatch.stack.native.programs import Programs
from pocketwatch.stack.stack import Stack
from tests.support.greeter import greeter
from tests.support.machine import is_alive, listener, processes_of
from tests.support.stacks import pids, quiet_stack, record, small_stack, temporary_folder

PROJECT = Path(__file__).parents[2]
COMMAND_LINE = "from console.cli.stack import app; app()"


@pytest.fixture
def small() -> Iterator[Stack]:
    with small_stack() as stack:
        yield stack


def test_concurrent_folders_and_commands_do_not_collide() -> None:
    with temporary_folder() as one, temporary_folder(mode=0o700) as closed:
        other = closed / "тека з пробілами"  # closed to other users, and outside Latin-1
        commands = [
            subprocess.Popen(
                [sys.executable, "-c", COMMAND_LINE, "up", "--folder", folder],
                cwd=one.parent,
                env={**os.environ, "PYTHONPATH": str(PROJECT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for folder in (one, other, one)
        ]
        outputs = [command.communicate()[1] for command in commands]
        try:
            assert [command.returncode for command in commands] == [0, 0, 0]
            assert sorted(text.count("started") for text in outputs) == [0, 4, 4]
            assert all(server.ready for folder in (one, other) for server in quiet_stack(folder).status())
            ports = [set(record(quiet_stack(folder))["ports"].values()) for folder in (one, other)]
            assert not ports[0] & ports[1]
        finally:
            quiet_stack(other).down(wipe=True)


AS_UNPRIVILEGED_USER = """
import encodings.idna, os, sys  # idna: what is loaded late cannot be loaded by a user who may not read it
from pathlib import Path
from pocketwatch.stack.stack import Stack
if os.getuid() == 0:
    os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[2]))
# The mail catcher is Python, which this user may not be able to start.
stack = Stack(Path(sys.argv[1]), external={"SMTP_URL": "smtp://127.0.0.1:1"}, durable=False)
stack.up()
assert [server.ready for server in stack.status()] == [True, True, True, False]
owners = {os.stat(f"/proc/{stack.pid(server)}").st_uid for server in ("rabbitmq", "postgres", "redis")}
assert owners == {os.getuid()}, owners
stack.down(wipe=True)
"""


def test_unprivileged_user_needs_no_root() -> None:
    account = pwd.getpwnam("nobody")
    with temporary_folder() as folder:
        if os.getuid() == 0:
            folder.mkdir()
            os.chown(folder, account.pw_uid, account.pw_gid)
            os.chown(folder.parent, account.pw_uid, account.pw_gid)

        result = subprocess.run(
            [sys.executable, "-c", AS_UNPRIVILEGED_USER, folder, str(account.pw_uid), str(account.pw_gid)],
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            check=False,
        )

        assert (result.returncode, folder.exists()) == (0, False), result.stderr


def test_external_servers_are_neither_started_nor_stopped(tmp_path: Path) -> None:
    with listener() as port, greeter() as mail:
        urls = {
            "RABBITMQ_URL": f"amqp://user:secret@127.0.0.1:{port}/",
            "DATABASE_URL": f"postgresql://user:secret@127.0.0.1:{port}/theirs",
            "REDIS_URL": f"redis://:secret@127.0.0.1:{port}/0",
            "SMTP_URL": f"smtp://user:secret@127.0.0.1:{mail}",
        }
        stack = quiet_stack(tmp_path / "stack", external=urls)

        assert stack.up() == urls == stack.env()
        assert [(s.source, s.ready, s.pid) for s in stack.status()] == [("external", True, None)] * 4
        assert "secret" not in str(stack.status())
        stack.down(wipe=True)

        assert stack.status()[0].ready
    assert not any(server.ready for server in stack.status())


def test_only_servers_that_are_not_external_are_started(small: Stack) -> None:
    environment = small.up()

    assert [server.source for server in small.status()] == ["external", "native", "native", "native"]
    assert environment["RABBITMQ_URL"].startswith("amqp://user")
    assert "user" not in (small.folder / "env").read_text()


def test_down_stops_servers_whose_folder_was_deleted(small: Stack) -> None:
    small.up()
    running = pids(small, "postgres", "redis").values()
    shutil.rmtree(small.folder)

    small.down()

    assert not any(is_alive(process) for process in running)
    assert not small.folder.exists()


async def test_up_starts_afresh_after_the_folder_was_deleted() -> None:
    mask = os.umask(0o077)  # so that the unprivileged user cannot enter new folders
    try:
        with temporary_folder(mode=0o700) as folder:
            stack = quiet_stack(folder, external={"RABBITMQ_URL": "amqp://127.0.0.1:1/"})
            stack.up()
            shutil.rmtree(folder)

            environment = stack.up()

            await (await asyncpg.connect(environment["DATABASE_URL"])).close()
    finally:
        os.umask(mask)


def test_loose_umask_opens_nothing_to_other_users() -> None:
    mask = os.umask(0)
    try:
        with temporary_folder() as parent:
            stack = quiet_stack(parent / "made/too")
            stack.up()

            modes = {path: path.lstat().st_mode for path in (parent, *parent.rglob("*"))}
            cookie = stack.folder / "rabbitmq/.erlang.cookie"
            secret = bytes.fromhex(cookie.read_text())
            stack.down(wipe=True)
    finally:
        os.umask(mask)

    assert [path for path, mode in modes.items() if mode & 0o022] == []
    inside = {path for path in modes if path.parent == stack.folder}
    assert {path.name for path in inside if modes[path] & 0o077} == set()
    assert {f"{server}.log" for server in ("rabbitmq", "postgres", "redis", "mail")} < {path.name for path in inside}
    assert modes[cookie] & 0o777 == 0o600
    assert len(secret) >= 16  # bytes; 128 bits


def test_missing_programs_are_named_if_they_cannot_be_installed(tmp_path: Path) -> None:
    nowhere = Programs(root=tmp_path / "empty", path="")
    stack = Stack(tmp_path / "stack", echo=lambda _: None, programs=nowhere)

    with pytest.raises(StackError, match=r"apt-get install .*rabbitmq-server postgresql redis-server"):
        stack.up()


def test_error_shows_the_log_of_a_server_that_does_not_start(small: Stack, tmp_path: Path) -> None:
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho out of luck today\nexit 3\n")
    broken.chmod(0o755)
    programs = Programs(path=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    stack = Stack(
        small.folder,
        external={"RABBITMQ_URL": "amqp://127.0.0.1:1/"},
        durable=False,
        echo=lambda _: None,
        programs=programs,
    )

    with pytest.raises(StackError) as error:
        stack.up()

    assert str(error.value).startswith("Redis did not start")
    assert "out of luck today" in str(error.value)
    assert str(small.folder / "redis.log") in str(error.value)
    assert processes_of(small.folder) == []


def test_data_without_passwords_are_kept_until_wipe(small: Stack) -> None:
    small.up()
    small.down()
    (small.folder / "identity.json").unlink()

    with pytest.raises(StackError, match="--wipe"):
        small.up()

    small.down(wipe=True)
    assert not small.folder.exists()
