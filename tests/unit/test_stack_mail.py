"""The mail catcher: what it takes over a real socket, keeps as files, and lets people read."""

import json
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.mail.commands import app
from pocketwatch.errors import PocketwatchError
from pocketwatch.stack import catcher, probes
from pocketwatch.stack.letters import forget, letter, letters
from pocketwatch.stack.mailbox import Mailbox
from tests.support.greeter import greeter
from tests.support.machine import eventually, listener

PROJECT = Path(__file__).parents[2]
Client = Callable[[], smtplib.SMTP]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """One catcher for the whole module: its folder and its port."""
    folder = tmp_path_factory.mktemp("stack")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "pocketwatch.stack.catcher", str(folder), str(port)]
    with subprocess.Popen(command, cwd=PROJECT) as process:
        assert eventually(lambda: probes.mail_is_ready({"mail": port}))
        yield folder, port
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


@pytest.fixture
def folder(running: tuple[Path, int]) -> Path:
    forget(running[0])
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


def test_a_letter_is_read_as_it_was_sent(client: smtplib.SMTP, folder: Path):
    client.send_message(approved())

    (found,) = letters(folder)
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
        b"Subject: long\r\n\r\n" + b"x" * 300_000 + b"\r\n",
        b"Subject: dots\r\n\r\n" + b"." * 200_000 + b"\r\n" + b".\r\n" * 30_000,
    ],
)
def test_the_bytes_of_a_letter_lie_unchanged_below_its_envelope(client: smtplib.SMTP, folder: Path, sent: bytes):
    client.sendmail("shop@site.test", ["olena@site.test", "petro@site.test"], sent)

    (file,) = (folder / "mail").glob("*.eml")
    envelope = (
        b"X-Envelope-From: shop@site.test\r\nX-Envelope-To: olena@site.test\r\nX-Envelope-To: petro@site.test\r\n"
    )
    assert file.read_bytes() == envelope + sent


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_a_letter_may_come_in_pieces_of_any_size(running: tuple[Path, int], folder: Path, size: int):
    letter = b"Subject: pieces.\r\n\r\n..one.\r\n\r\n.."
    conversation = b"EHLO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n" + letter + b"\r\n.\r\nQUIT\r\n"
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for begin in range(0, len(conversation), size):
            connection.sendall(conversation[begin : begin + size])
        answers = b"".join(iter(lambda: connection.recv(4096), b""))

    assert answers.splitlines()[-1].startswith(b"221 ")
    (file,) = (folder / "mail").glob("*.eml")
    assert file.read_bytes().endswith(b"b@x.test\r\nSubject: pieces.\r\n\r\n.one.\r\n\r\n.\r\n")


def test_letters_are_in_the_order_of_their_arrival(client: smtplib.SMTP, folder: Path):
    subjects = [f"number {number}" for number in range(25)]
    for subject in subjects:
        client.sendmail("a@x.test", "b@x.test", f"Subject: {subject}\r\n\r\n")

    files = sorted((folder / "mail").glob("*.eml"))
    assert [found.subject for found in letters(folder)] == subjects
    assert [found.subject for found in letters(folder, newest=2)] == subjects[-2:]
    assert [int(file.stem) for file in files] == [found.number for found in letters(folder)]


def test_the_null_sender_and_addresses_beyond_ascii_are_kept(client: smtplib.SMTP, folder: Path):
    client.sendmail("", ["олена@сайт.test"], b"Subject: x\r\n\r\n", mail_options=["SMTPUTF8"])

    (found,) = letters(folder)
    assert (found.sender, found.recipients) == ("<>", ("олена@сайт.test",))


def test_it_tells_what_it_can_do_and_asks_for_no_password(client: smtplib.SMTP):
    assert {"size", "8bitmime", "smtputf8", "pipelining"} <= set(client.esmtp_features)
    assert client.esmtp_features["size"] == str(catcher.LARGEST)
    assert "auth" not in client.esmtp_features


def test_commands_that_come_at_once_are_answered_in_order(running: tuple[Path, int], folder: Path):
    one = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n"
    empty = one.replace(b"Subject: x\r\n\r\n", b"")
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.sendall(b"HELO x\r\n" + one + empty + one + b"QUIT\r\n")
        answers = b"".join(iter(lambda: connection.recv(4096), b""))

    codes = [line[:3] for line in answers.splitlines()]
    assert codes == [b"220", b"250", *[b"250", b"250", b"354", b"250"] * 3, b"221"]
    assert [found.subject for found in letters(folder)] == ["x", "", "x"]


def test_a_letter_that_is_too_large_is_refused_and_the_next_one_is_taken(client: smtplib.SMTP, folder: Path):
    client.mail("a@x.test")
    client.rcpt("b@x.test")

    code, _ = client.data(b"x\r\n" * (catcher.LARGEST // 3 + 1))
    client.sendmail("a@x.test", "b@x.test", b"Subject: small\r\n\r\n")

    assert code == 552
    assert client.mail("a@x.test", [f"size={catcher.LARGEST + 1}"])[0] == 552
    assert [found.subject for found in letters(folder)] == ["small"]


def test_the_largest_letter_is_taken(client: smtplib.SMTP, folder: Path):
    sent = b"x" * (catcher.LARGEST - 2) + b"\r\n"

    client.sendmail("a@x.test", "b@x.test", sent)

    (file,) = (folder / "mail").glob("*.eml")
    assert file.read_bytes().endswith(b"b@x.test\r\n" + sent)


def test_data_without_a_recipient_is_refused(client: smtplib.SMTP, folder: Path):
    client.mail("a@x.test")

    assert client.docmd("DATA")[0] == 503
    assert letters(folder) == []


def test_a_letter_that_was_not_finished_is_not_kept(running: tuple[Path, int], folder: Path):
    with socket.create_connection(("127.0.0.1", running[1]), 20) as connection:
        connection.sendall(b"HELO x\r\nMAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\nSubject: half")
        assert eventually(lambda: b"354" in connection.recv(4096))

    with smtplib.SMTP("127.0.0.1", running[1], local_hostname="localhost", timeout=20) as other:
        other.sendmail("a@x.test", "b@x.test", b"Subject: whole\r\n\r\n")
    assert [found.subject for found in letters(folder)] == ["whole"]
    assert [path.suffix for path in (folder / "mail").iterdir()] == [".eml"]


def test_a_folder_that_cannot_be_written_to_is_told_as_a_passing_trouble(client: smtplib.SMTP, folder: Path):
    aside = (folder / "mail").rename(folder / "aside")

    with pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@x.test", "b@x.test", b"Subject: x\r\n\r\n")
    aside.rename(folder / "mail")
    client.sendmail("a@x.test", "b@x.test", b"Subject: later\r\n\r\n")

    assert refused.value.smtp_code == 452
    assert [found.subject for found in letters(folder)] == ["later"]


def test_only_the_newest_letters_are_kept(tmp_path: Path):
    mailbox = Mailbox(tmp_path, keep=3)
    for number in range(1, 8):
        mailbox.store("a@x.test", ["b@x.test"], f"Subject: {number}\r\n\r\n{'x' * (9 - number) * 1000}".encode())

    assert [found.subject for found in letters(tmp_path)] == ["5", "6", "7"]
    assert [len(found.text) for found in letters(tmp_path)] == [4000, 3000, 2000]
    assert len(list((tmp_path / "mail").iterdir())) == 3


def test_a_new_start_goes_on_counting_and_clears_what_was_unfinished(tmp_path: Path):
    for number in range(1, 6):
        Mailbox(tmp_path).store("a@x.test", ["b@x.test"], f"Subject: {number}\r\n\r\n".encode())
    (tmp_path / "mail/letter.new").write_bytes(b"half")

    number = Mailbox(tmp_path, keep=2).store("a@x.test", ["b@x.test"], b"Subject: 6\r\n\r\n")

    assert number == 6
    assert [(found.number, found.subject) for found in letters(tmp_path)] == [(5, "5"), (6, "6")]
    assert len(list((tmp_path / "mail").iterdir())) == 2


def test_an_address_cannot_add_lines_to_the_envelope(tmp_path: Path):
    Mailbox(tmp_path).store("a@x.test\r\nSubject: forged", ["b@x.test\nX-Envelope-To: c@x.test"], b"Subject: x\r\n\r\n")

    (found,) = letters(tmp_path)
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
def test_a_malformed_letter_is_read_as_far_as_it_can_be(tmp_path: Path, malformed: bytes):
    Mailbox(tmp_path).store("a@x.test", ["b@x.test"], b"X-First: 1\r\n" + malformed + b"\r\n\r\n\xffbody\r\n")

    (found,) = letters(tmp_path)

    assert (found.sender, found.recipients) == ("a@x.test", ("b@x.test",))
    name, _, value = malformed.decode("ascii", "replace").partition(": ")
    shown = {"Message-ID": found.message_id, "To": found.to}
    assert shown.get(name, value) == value


def test_without_a_folder_there_are_no_letters(tmp_path: Path):
    forget(tmp_path)

    assert letters(tmp_path) == []
    assert letter(tmp_path, 1) is None


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMTP_URL", raising=False)
    mailbox = Mailbox(tmp_path / ".pocketwatch")
    mailbox.store("a@x.test", ["b@x.test"], b"Subject: first\r\nTo: B <b@x.test>\r\n\r\nGood \x1b[31mday\r\n")
    mailbox.store("a@x.test", ["c@x.test"], b"Subject: [second]\r\n\r\nGood night\r\n")
    return CliRunner()


def test_caught_lists_letters_newest_first(command_line: CliRunner):
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


def test_show_prints_the_text_of_one_letter_and_nothing_that_moves_the_terminal(command_line: CliRunner):
    shown = command_line.invoke(app, ["caught", "--show", "1"])
    as_json = command_line.invoke(app, ["caught", "--show", "1", "--json"])

    assert shown.stdout == "From: a@x.test\nTo: B <b@x.test>\nSubject: first\n\nGood [31mday\n\n"
    assert json.loads(as_json.stdout)["text"] == "Good \x1b[31mday\n"


def test_a_letter_that_is_not_there_is_an_error(command_line: CliRunner):
    result = command_line.invoke(app, ["caught", "--show", "99"])

    assert isinstance(result.exception, PocketwatchError)
    assert str(result.exception) == "there is no letter 99; see: pocketwatch mail caught"


def test_where_letters_go_elsewhere_caught_says_where(command_line: CliRunner, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMTP_URL", "smtps://somebody:secret@mail.site.test")

    result = command_line.invoke(app, ["caught"])

    assert isinstance(result.exception, PocketwatchError)
    assert "mail.site.test, which is given by SMTP_URL; look there" in str(result.exception)
    assert "secret" not in str(result.exception)


def test_caught_has_help_with_an_example(command_line: CliRunner):
    assert "Example: pocketwatch mail caught" in command_line.invoke(app, ["caught", "--help"]).stdout


def test_a_mail_server_must_greet_to_count_as_reachable():
    with listener() as silent, greeter() as polite, greeter("554 not today") as rude:
        reachable = {
            name: probes.is_reachable(f"smtp+starttls://me:secret@127.0.0.1:{port}")
            for name, port in {"silent": silent, "polite": polite, "rude": rude}.items()
        }

    assert reachable == {"silent": False, "polite": True, "rude": False}
    assert not probes.is_reachable("smtp://127.0.0.1:1")


def test_a_probe_takes_any_certificate(tmp_path: Path):
    command = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days 2 -keyout key -out certificate"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    with greeter(tls=tls) as port, greeter() as plain:
        assert probes.is_reachable(f"smtps://me:secret@127.0.0.1:{port}")
        assert not probes.is_reachable(f"smtps://me:secret@127.0.0.1:{plain}")
