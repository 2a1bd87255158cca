"""The mail catcher as a server of the stack; the other servers are external."""

import json
import os
import shutil
import signal
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from mailbox import Maildir
from pathlib import Path

import pytest

from pocketwatch.errors import StackError
from pocketwatch.stack.native.caught_emails import caught_emails
from pocketwatch.stack.stack import Stack
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Program
from tests.support.greeter import greeter
from tests.support.machine import is_alive, listener, listening_addresses, processes_of
from tests.support.stacks import kill, pid, pids, quiet_stack, record, send, temporary_folder

OTHERS = {
    "RABBITMQ_URL": "amqp://user:secret@127.0.0.1:1/",
    "DATABASE_URL": "postgresql://user:secret@127.0.0.1:1/theirs",
    "REDIS_URL": "redis://:secret@127.0.0.1:1/0",
}


@pytest.fixture
def folder() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield folder


@pytest.fixture
def stack(folder: Path) -> Stack:
    return quiet_stack(folder, external=OTHERS)


def subjects(stack: Stack) -> list[str]:
    return [email.subject for email in caught_emails(stack.folder)]


def test_emails_survive_restarts_and_kills(stack: Stack):
    url = stack.up()["SMTP_URL"]
    send(url, "at first")

    stack.down()
    assert processes_of(stack.folder) == []
    assert subjects(stack) == ["at first"]

    assert stack.up()["SMTP_URL"] == url
    send(url, "after a stop")
    kill(stack, "mail")
    assert stack.up()["SMTP_URL"] == url
    send(url, "after a kill")

    assert subjects(stack) == ["at first", "after a stop", "after a kill"]
    assert [email.number for email in caught_emails(stack.folder)] == [1, 2, 3]


def test_down_stops_it_despite_connected_clients_and_wipe_deletes_emails(stack: Stack):
    url = stack.up()["SMTP_URL"]
    send(url, "to be deleted")
    process = pid(stack, "mail")
    port = record(stack)["ports"]["mail"]

    with smtplib.SMTP("127.0.0.1", port, local_hostname="localhost", timeout=20):
        stack.down()

        assert not is_alive(process)
    assert listening_addresses({port}) == {}
    stack.down(wipe=True)
    assert not stack.folder.exists()


def test_status_and_env_include_the_mail_catcher(stack: Stack):
    environment = stack.up()

    port = record(stack)["ports"]["mail"]
    mail = stack.status()[-1]
    assert (mail.name, mail.source, mail.ready, mail.detail) == ("mail", "native", True, "ready")
    assert (mail.address, mail.pid) == (f"127.0.0.1:{port}", stack.pid("mail"))
    assert environment["SMTP_URL"] == stack.env()["SMTP_URL"] == f"smtp://127.0.0.1:{port}"
    assert (stack.folder / "env").read_text() == f"SMTP_URL=smtp://127.0.0.1:{port}\n"
    assert stack.other_mail_server() is None


def test_hanging_mail_catcher_is_not_ready(stack: Stack, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pocketwatch.stack.probes.SLOW_TIMEOUT", 0.2)
    stack.up()

    os.kill(pid(stack, "mail"), signal.SIGSTOP)

    mail = stack.status()[-1]
    assert (mail.ready, mail.detail) == (False, "does not answer")


def test_exported_url_of_the_mail_catcher_is_not_external(stack: Stack):
    environment = stack.up()

    again = quiet_stack(stack.folder, external=environment)

    assert [server.source for server in again.status()] == ["external", "external", "external", "native"]
    again.up()
    assert again.other_mail_server() is None


def test_port_taken_by_another_program_is_replaced(stack: Stack):
    stack.up()
    before = record(stack)["ports"]["mail"]
    kill(stack, "mail")

    with listener(before):
        environment = stack.up()

    assert environment["SMTP_URL"] == f"smtp://127.0.0.1:{record(stack)['ports']['mail']}"
    assert record(stack)["ports"]["mail"] != before


def test_lost_state_costs_a_restart_but_no_emails(stack: Stack):
    send(stack.up()["SMTP_URL"], "before the loss")
    before = pid(stack, "mail")
    (stack.folder / "state.json").unlink()

    stack.up()

    assert not is_alive(before)
    assert subjects(stack) == ["before the loss"]


def test_down_stops_a_mail_catcher_whose_folder_was_deleted(stack: Stack):
    stack.up()
    process = pid(stack, "mail")
    shutil.rmtree(stack.folder)

    stack.down()

    assert not is_alive(process)


def test_foreign_python_process_in_the_folder_is_left_alone(stack: Stack):
    stack.up()
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        command, cwd=stack.folder / "mail", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as other:
        (stack.folder / "state.json").unlink()

        stack.up()

        assert other.poll() is None
        other.kill()


def test_deleted_emails_do_not_disturb_the_mail_catcher(stack: Stack):
    url = stack.up()["SMTP_URL"]
    send(url, "one")

    Maildir(stack.folder / "mail").clear()
    send(url, "two")

    assert subjects(stack) == ["two"]


def test_folder_without_mail_catcher_gets_one(folder: Path):
    with listener() as broker:
        others = {"RABBITMQ_URL": f"amqp://user:secret@127.0.0.1:{broker}/"}
        older = quiet_stack(folder, external=others | {"SMTP_URL": "smtp://127.0.0.1:1"})
        older.up()
        before = pids(older, "postgres", "redis")
        assert "mail" not in (folder / "state.json").read_text() + (folder / "identity.json").read_text()
        newer = quiet_stack(folder, external=others)

        assert newer.status()[-1].detail == "not running"
        with pytest.raises(StackError, match=r"not running: Mail; .*stack up"):
            newer.env()
        environment = newer.up()

        assert pids(newer, "postgres", "redis") == before
        assert all(server.ready for server in newer.status())
        send(environment["SMTP_URL"], "welcome")
        assert subjects(newer) == ["welcome"]


def test_external_mail_server_is_left_alone(folder: Path):
    with greeter() as port:
        url = f"smtp+starttls://user:secret@127.0.0.1:{port}"
        stack = quiet_stack(folder, external=OTHERS | {"SMTP_URL": url})

        assert stack.up()["SMTP_URL"] == stack.env()["SMTP_URL"] == url
        assert (stack.status()[-1].source, stack.status()[-1].ready) == ("external", True)
        assert stack.status()[-1].detail == "set by SMTP_URL, reachable"
        assert stack.other_mail_server() == f"127.0.0.1:{port}, which is set by SMTP_URL"
        assert "secret" not in str(stack.status())
        assert not (folder / "mail").exists()

    assert stack.status()[-1].detail == "set by SMTP_URL, not reachable"


def test_error_shows_the_log_of_a_mail_catcher_that_does_not_start(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho out of luck today\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))

    with pytest.raises(StackError) as error:
        stack.up()

    assert str(error.value).startswith("Mail did not start")
    assert "out of luck today" in str(error.value)
    assert processes_of(stack.folder) == []


def test_mail_caught_shows_the_emails_of_the_stack(pocketwatch: Program, servers: Servers):
    send(servers.urls["SMTP_URL"], "an email of the tests")

    done = pocketwatch("mail", "caught", "--json", "--limit", "1", "--folder", str(servers.stack.folder))

    assert done.returncode == 0, done.stderr
    assert [email["subject"] for email in json.loads(done.stdout)] == ["an email of the tests"]


def test_doctor_reports_whether_emails_can_be_sent(pocketwatch: Program, servers: Servers):
    def of(**changes: str) -> tuple[str, str]:
        findings = json.loads(pocketwatch("doctor", "--json", **changes).stdout)
        return next((finding["result"], finding["detail"]) for finding in findings if finding["subject"] == "mail")

    port = servers.urls["SMTP_URL"].rpartition(":")[2]
    domain = "localhost.localdomain"
    assert of() == ("ok", f"127.0.0.1:{port} accepts noreply@{domain} from {domain}")
    result, detail = of(SMTP_URL="smtp+starttls://me:secret@127.0.0.1:1")
    assert result == "problem"
    assert detail.startswith("127.0.0.1:1 does not answer: ")
    assert detail.endswith("; emails wait")
    assert of(SMTP_URL="") == ("warning", "SMTP_URL is not set, so the group mail does not start")
