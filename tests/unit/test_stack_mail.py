"""The mail catcher: what it accepts over a real socket, stores in its Maildir, and shows to its user."""

import json
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from mailbox import Maildir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.mail.commands import app
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack import probes
from pocketwatch.stack.native.caught_emails import caught_email, caught_emails
from pocketwatch.stack.native.mail_catcher import MAX_SIZE, MODULE, NewestEmails
from tests.support.greeter import greeter
from tests.support.machine import eventually, listener

PROJECT = Path(__file__).parents[2]
LONGEST_LINE = b"x" * 998 + b"\r\n"  # that SMTP allows


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """Yield the folder and the port of one mail catcher for the whole module."""
    folder = tmp_path_factory.mktemp("stack")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", MODULE, str(folder / "mail"), str(port)]
    with subprocess.Popen(command, cwd=PROJECT) as process:
        assert eventually(lambda: probes.is_ready("mail", {"mail": port}, ""))
        yield folder, port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.fixture
def folder(running: tuple[Path, int]) -> Path:
    Maildir(running[0] / "mail").clear()
    return running[0]


@pytest.fixture
def client(running: tuple[Path, int]) -> Iterator[smtplib.SMTP]:
    with smtplib.SMTP("127.0.0.1", running[1], local_hostname="localhost", timeout=20) as client:
        client.ehlo()
        yield client


def approved() -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = "Pocketwatch <shop@site.test>", "Олена <olena@site.test>"
    message["Subject"] = "Оголошення схвалено"
    message["Date"], message["Message-ID"] = "Sat, 21 Nov 2026 13:00:00 +0200", "<ad-7@site.test>"
    message.set_content("Вітаємо!\n.крапка\n..дві\n")
    message.add_alternative("<p>Вітаємо!</p>", subtype="html")
    return message


def stored(folder: Path) -> bytes:
    """Return the content of the only stored email."""
    (file,) = (folder / "mail/new").iterdir()
    return file.read_bytes()


def test_email_is_read_as_it_was_sent(client: smtplib.SMTP, folder: Path):
    client.send_message(approved())

    (found,) = caught_emails(folder)
    assert (found.sender, found.recipients) == ("shop@site.test", ("olena@site.test",))
    assert (found.subject, found.to) == ("Оголошення схвалено", "Олена <olena@site.test>")
    assert found.date is not None
    assert found.date.isoformat() == "2026-11-21T13:00:00+02:00"
    assert found.message_id == "<ad-7@site.test>"
    assert found.text == "Вітаємо!\n.крапка\n..дві\n"
    assert found.html == "<p>Вітаємо!</p>\n"


@pytest.mark.parametrize(
    "sent",
    [
        b"Subject: x\r\n\r\nHello\r\n",
        b"\r\n",
        b".\r\n",
        b"..\r\n.\r\n.a\r\n\r\n.\r\n",
        b"Subject: no end.\r\n\r\nA sentence.\r\nAnother one.\r\n.\r\n.\r\n",
        b"Subject: \xd0\x9f\xff\r\n\r\n\x00\x80\xff\r\n",
        b"Subject: long\r\n\r\n" + LONGEST_LINE,
        b"Subject: dots\r\n\r\n" + (b"." * 900 + b"\r\n") * 300 + b".\r\n" * 30_000,
    ],
)
def test_bytes_are_stored_unchanged_below_the_envelope(client: smtplib.SMTP, folder: Path, sent: bytes):
    client.sendmail("shop@site.test", ["olena@site.test", "petro@site.test"], sent)

    envelope = b"X-Envelope-From: shop@site.test\r\nX-Envelope-To: olena@site.test, petro@site.test\r\n"
    assert stored(folder) == envelope + sent


def test_forged_envelope_is_ignored(client: smtplib.SMTP, folder: Path):
    client.sendmail("a@x.test", "b@x.test", b"X-Envelope-From: forged\r\nX-Envelope-To: forged\r\n\r\n")

    (found,) = caught_emails(folder)
    assert (found.sender, found.recipients) == ("a@x.test", ("b@x.test",))


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_email_may_arrive_in_pieces_of_any_size(running: tuple[Path, int], folder: Path, size: int):
    content = b"Subject: pieces.\r\n\r\n..one.\r\n\r\n.."
    conversation = b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n" + content + b"\r\n.\r\nQUIT\r\n"
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(conversation), size):
            connection.sendall(conversation[begin : begin + size])
        answers = b"".join(iter(lambda: connection.recv(4096), b""))

    assert answers.splitlines()[-1].startswith(b"221 ")
    assert stored(folder).endswith(b"b@x.test\r\nSubject: pieces.\r\n\r\n.one.\r\n\r\n.\r\n")


def test_emails_are_numbered_in_the_order_of_their_arrival(client: smtplib.SMTP, folder: Path):
    subjects = [f"number {number}" for number in range(25)]
    for subject in subjects:
        client.sendmail("a@x.test", "b@x.test", f"Subject: {subject}\r\n\r\n")

    assert [found.subject for found in caught_emails(folder)] == subjects
    assert [found.number for found in caught_emails(folder)] == list(range(1, 26))
    assert [found.subject for found in caught_emails(folder, newest=2)] == subjects[-2:]
    assert caught_email(folder, 25) == caught_emails(folder)[-1]


def test_null_sender_and_non_ascii_addresses_are_stored(client: smtplib.SMTP, folder: Path):
    client.sendmail("", ["олена@сайт.test"], b"Subject: x\r\n\r\n", mail_options=["SMTPUTF8"])

    (found,) = caught_emails(folder)
    assert (found.sender, found.recipients) == ("<>", ("олена@сайт.test",))


def test_extensions_are_announced_and_authentication_is_not(client: smtplib.SMTP):
    assert {"size", "8bitmime", "smtputf8"} <= set(client.esmtp_features)
    assert client.esmtp_features["size"] == str(MAX_SIZE)
    assert "auth" not in client.esmtp_features


def test_pipelined_commands_are_answered_in_order(running: tuple[Path, int], folder: Path):
    one = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
    empty = one.replace(b"Subject: x\r\n\r\n", b"")
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.sendall(b"HELO x\r\n" + one + empty + one + b"QUIT\r\n")
        answers = b"".join(iter(lambda: connection.recv(4096), b""))

    codes = [line[:3] for line in answers.splitlines()]
    assert codes == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 3, b"221"]
    assert [found.subject for found in caught_emails(folder)] == ["x", "", "x"]


def test_too_large_email_is_refused_and_the_next_one_is_accepted(client: smtplib.SMTP, folder: Path):
    client.mail("a@x.test")
    client.rcpt("b@x.test")

    code, _ = client.data(LONGEST_LINE * (MAX_SIZE // len(LONGEST_LINE) + 1))
    client.sendmail("a@x.test", "b@x.test", b"Subject: small\r\n\r\n")

    assert code == 552
    assert client.mail("a@x.test", [f"size={MAX_SIZE + 1}"])[0] == 552
    assert [found.subject for found in caught_emails(folder)] == ["small"]


def test_largest_email_is_accepted(client: smtplib.SMTP, folder: Path):
    largest = LONGEST_LINE * (MAX_SIZE // len(LONGEST_LINE))

    client.sendmail("a@x.test", "b@x.test", largest)

    assert stored(folder).endswith(b"b@x.test\r\n" + largest)


def test_line_beyond_the_limit_of_smtp_is_refused(client: smtplib.SMTP, folder: Path):
    client.mail("a@x.test")
    client.rcpt("b@x.test")

    assert client.data(b"xx" + LONGEST_LINE)[0] == 500
    assert caught_emails(folder) == []


def test_data_without_a_recipient_is_refused(client: smtplib.SMTP, folder: Path):
    client.mail("a@x.test")

    assert client.docmd("DATA")[0] == 503
    assert caught_emails(folder) == []


def test_interrupted_email_is_not_stored(running: tuple[Path, int], folder: Path):
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.sendall(b"HELO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nSubject: half")
        assert eventually(lambda: b"354" in connection.recv(4096))

    with smtplib.SMTP("127.0.0.1", running[1], local_hostname="localhost", timeout=20) as other:
        other.sendmail("a@x.test", "b@x.test", b"Subject: whole\r\n\r\n")
    assert [found.subject for found in caught_emails(folder)] == ["whole"]
    assert list((folder / "mail/tmp").iterdir()) == []


def test_unwritable_folder_is_a_temporary_error(client: smtplib.SMTP, folder: Path):
    renamed = (folder / "mail").rename(folder / "renamed")

    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@x.test", "b@x.test", b"Subject: x\r\n\r\n")
    renamed.rename(folder / "mail")
    client.sendmail("a@x.test", "b@x.test", b"Subject: later\r\n\r\n")

    assert refused.value.smtp_code == 452
    assert [found.subject for found in caught_emails(folder)] == ["later"]


def test_only_the_newest_emails_are_kept(tmp_path: Path):
    mailbox = NewestEmails(tmp_path / "mail", keep=3)
    for number in range(1, 8):
        mailbox.store("a@x.test", ["b@x.test"], f"Subject: {number}\r\n\r\n{'x' * (9 - number) * 1000}".encode())

    assert [found.subject for found in caught_emails(tmp_path)] == ["5", "6", "7"]
    assert [len(found.text) for found in caught_emails(tmp_path)] == [4000, 3000, 2000]
    assert len(list((tmp_path / "mail/new").iterdir())) == 3


def test_emails_of_earlier_runs_count_as_kept(tmp_path: Path):
    for number in range(1, 6):
        NewestEmails(tmp_path / "mail").store("a@x.test", ["b@x.test"], f"Subject: {number}\r\n\r\n".encode())

    NewestEmails(tmp_path / "mail", keep=2).store("a@x.test", ["b@x.test"], b"Subject: 6\r\n\r\n")

    assert [found.subject for found in caught_emails(tmp_path)] == ["5", "6"]


def test_deleted_emails_do_not_disturb_the_limit(tmp_path: Path):
    mailbox = NewestEmails(tmp_path / "mail", keep=2)
    for number in range(1, 6):
        Maildir(tmp_path / "mail").clear()
        mailbox.store("a@x.test", ["b@x.test"], f"Subject: {number}\r\n\r\n".encode())

    assert [found.subject for found in caught_emails(tmp_path)] == ["5"]


def test_files_of_other_programs_are_ignored(tmp_path: Path):
    NewestEmails(tmp_path / "mail").store("a@x.test", ["b@x.test"], b"Subject: 1\r\n\r\n")
    (tmp_path / "mail/new/.hidden").touch()

    assert [found.subject for found in caught_emails(tmp_path)] == ["1"]


def test_address_cannot_add_lines_to_the_envelope(tmp_path: Path):
    mailbox = NewestEmails(tmp_path / "mail")

    mailbox.store("a@x.test\r\nSubject: forged", ["b@x.test\nX-Envelope-To: c@x.test"], b"Subject: x\r\n\r\n")

    (found,) = caught_emails(tmp_path)
    assert found.subject == "x"
    assert found.recipients == ("b@x.test X-Envelope-To: c@x.test",)


@pytest.mark.parametrize(
    "malformed",
    [
        b"Message-ID: <[>",
        b"To: a <",
        b'To: "',
        b"Subject: =?nope?q?=ff?= \xff",
        b"Date: Mon, 99 Foo 99999 99:99:99 +9999",
        b"Content-Type: text/plain; charset=nope",
        b"Content-Type: text/plain; charset=undefined",
        b"Content-Type: multipart/alternative; boundary=none",
        b"Content-Transfer-Encoding: base64",
    ],
)
def test_malformed_email_is_read_as_far_as_possible(client: smtplib.SMTP, folder: Path, malformed: bytes):
    client.sendmail("a@x.test", ["b@x.test"], b"X-First: 1\r\n" + malformed + b"\r\n\r\n\xffbody\r\n")

    (found,) = caught_emails(folder)

    assert (found.sender, found.recipients) == ("a@x.test", ("b@x.test",))
    name, _, value = malformed.decode("ascii", "replace").partition(": ")
    shown = {"Message-ID": found.message_id, "To": found.to}
    assert shown.get(name, value) == value


def test_folder_without_mail_catcher_has_no_emails(tmp_path: Path):
    assert caught_emails(tmp_path) == []
    assert caught_email(tmp_path, 1) is None


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTP_URL", raising=False)
    (tmp_path / ".pocketwatch").mkdir()
    mailbox = NewestEmails(tmp_path / ".pocketwatch/mail")
    mailbox.store("a@x.test", ["b@x.test"], b"Subject: first\r\nTo: B <b@x.test>\r\n\r\nGood \x1b[31mday\r\n")
    mailbox.store("a@x.test", ["c@x.test"], b"Subject: [second]\r\n\r\nGood night\r\n")
    return CliRunner()


def test_caught_lists_emails_newest_first(command_line: CliRunner):
    table = command_line.invoke(app, ["caught"]).stdout
    listed = json.loads(command_line.invoke(app, ["caught", "--json"]).stdout)
    newest = json.loads(command_line.invoke(app, ["caught", "--json", "--limit", "1"]).stdout)

    assert table.index("[second]") < table.index("first")
    assert "c@x.test" in table
    assert [(row["number"], row["subject"], row["recipients"]) for row in listed] == [
        (2, "[second]", ["c@x.test"]),
        (1, "first", ["b@x.test"]),
    ]
    assert newest == listed[:1]


def test_show_prints_one_email_without_control_characters(command_line: CliRunner):
    shown = command_line.invoke(app, ["caught", "--show", "1"])
    as_json = command_line.invoke(app, ["caught", "--show", "1", "--json"])

    assert shown.stdout == "From: a@x.test\nTo: B <b@x.test>\nSubject: first\n\nGood \\x1b[31mday\n\n"
    assert json.loads(as_json.stdout)["text"] == "Good \x1b[31mday\n"


def test_showing_an_unknown_email_is_an_error(command_line: CliRunner):
    result = command_line.invoke(app, ["caught", "--show", "99"])

    assert isinstance(result.exception, PocketwatchError)
    assert str(result.exception) == "email 99: not caught; see: pocketwatch mail caught"


def test_caught_names_the_mail_server_that_is_used_instead(command_line: CliRunner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMTP_URL", "smtps://user:secret@mail.site.test")

    result = command_line.invoke(app, ["caught"])

    assert isinstance(result.exception, PocketwatchError)
    assert "mail.site.test, which is set by SMTP_URL, not to the mail catcher of " in str(result.exception)
    assert "secret" not in str(result.exception)


def test_caught_has_help_with_an_example(command_line: CliRunner):
    assert "Example: pocketwatch mail caught" in command_line.invoke(app, ["caught", "--help"]).stdout


def test_mail_server_is_reachable_only_if_it_greets():
    with listener() as silent, greeter() as polite, greeter("554 not today") as rude:
        reachable = {
            name: probes.is_reachable(f"smtp+starttls://me:secret@127.0.0.1:{port}")
            for name, port in {"silent": silent, "polite": polite, "rude": rude}.items()
        }

    assert reachable == {"silent": False, "polite": True, "rude": False}
    assert not probes.is_reachable("smtp://127.0.0.1:1")


def test_probe_accepts_any_certificate(tmp_path: Path):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2 -keyout key -out certificate"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    with greeter(tls=tls) as port, greeter() as plain:
        assert probes.is_reachable(f"smtps://me:secret@127.0.0.1:{port}")
        assert not probes.is_reachable(f"smtps://me:secret@127.0.0.1:{plain}")
