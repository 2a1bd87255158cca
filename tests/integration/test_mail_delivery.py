"""mail.delivery: from a message on the broker to a letter at the mail server, and its row in the log."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest

from consumers.mail.delivery_log import LEASE
from consumers.mail.sender import Desk
from pocketwatch.settings import Settings
from pocketwatch.smtp.pool import Transport
from pocketwatch.smtp.rate_limit import Pace
from schemas.emails import Plain
from schemas.mail import MailRequested
from schemas.message import Message
from tests.fixtures.mail import READER, Post, Serving, approved, flagged, urgent, wish
from tests.fixtures.smtp import SmtpServer

JOB = "mail.delivery"


async def test_a_letter_is_sent_and_its_row_says_so(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        asked = await post.ask(wish(locale="en"))
        row = await post.logged(asked, "sent")
        run = await post.runs.over(asked.message_id)

    (letter,) = smtp.letters
    assert letter.recipients == (READER,)
    assert letter.sender == "noreply@localhost.localdomain"
    assert "Lada Niva" in letter.message["Subject"]
    assert letter.message["Message-ID"] == row["external_id"]
    assert (row["method"], row["recipient"], row["letter"], row["locale"]) == ("email", READER, "ad_approved", "en")
    assert (row["attempts"], row["doubts"], row["error_message"]) == (1, 0, "")
    assert row["reply"].startswith("250 2.0.0 queued")
    assert row["key"] == f"{asked.message_id}:{READER}:email"
    assert row["delivered_at"] is None
    assert abs(row["sent_at"] - datetime.now(UTC)) < timedelta(minutes=1)
    assert run["status"] == "succeeded"
    assert run["statistics"] == {"letter": "ad_approved", "log": row["id"], "letter_status": "sent"}


async def test_a_row_that_a_notice_made_is_taken_up(post: Post, serving: Serving, smtp: SmtpServer):
    post.sql(
        "INSERT INTO moderation_notification_logs "
        "(method, recipient, status, error_message, sent_at, external_id, key) "
        "VALUES ('email', 'reader@example.com', 'pending', '', now(), '', 'notice-1:reader@example.com:email')"
    )

    async with serving():
        await post.runs.over((await post.ask(wish(key="notice-1:reader@example.com:email"))).message_id)

    (row,) = post.log()
    assert (row["status"], row["attempts"]) == ("sent", 1)
    assert len(smtp.letters) == 1


async def test_no_address_stands_in_the_run_log(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.answers("rcpt", f"451 4.2.0 <{READER}>: come back later")

    async with serving():
        asked = await post.ask(wish())
        run = await post.runs.over(asked.message_id)

    assert run["error"] == "451 4.2.0 <…@example.com>: come back later"
    assert READER not in str({**run, "message_id": ""})


async def test_the_same_message_twice_is_one_letter(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        asked = await post.ask(wish())
        await post.logged(asked, "sent")
        await post.ask(wish(), id_=asked.message_id)
        other = await post.ask(wish(key=f"{asked.message_id}:{READER}:email"))
        run = await post.runs.over(other.message_id)

    assert len(smtp.letters) == 1
    assert len(post.log()) == 1
    assert (run["status"], run["error"]) == ("skipped", "already sent")


async def test_copies_that_come_together_are_one_letter(post: Post, serving: Serving, smtp: SmtpServer):
    asked = await post.ask(wish(), copies=20)

    async with serving():
        await post.logged(asked, "sent")
        await post.logged(await post.ask(wish()), "sent")

    assert len(smtp.letters) == 2


async def test_twins_on_two_consumers_send_one_letter(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.stalls("rcpt", times=1)

    async with serving(), serving():
        asked = await post.ask(wish())
        await post.logged(asked, "sending")
        await post.ask(wish(), id_=asked.message_id)
        row = await post.put_off(asked, "wait.1m")

    assert row["status"] in {"sending", "pending"}
    assert row["attempts"] == 1
    assert smtp.letters == []


async def test_many_letters_share_transactions(post: Post, serving: Serving, smtp: SmtpServer):
    for number in range(100):
        await post.ask(wish(approved(ad_id=number)))

    async with serving():
        await post.logged(await post.ask(wish()), "sent")
        await asyncio.sleep(0)

    async def sent() -> int:
        return sum(row["status"] == "sent" for row in post.log())

    assert await sent() > 90
    (shared,) = post.sql("SELECT count(DISTINCT xmin::text) AS n FROM moderation_notification_logs")
    assert shared["n"] < 60
    assert smtp.most_at_once <= 8


# What readers do not want


async def test_a_suppressed_address_gets_nothing(post: Post, serving: Serving, smtp: SmtpServer):
    post.suppress(READER)

    async with serving():
        asked = await post.ask(wish(to="Reader@example.com"))
        row = await post.logged(asked)
        run = await post.runs.over(asked.message_id)

    assert (row["status"], row["error_message"]) == ("suppressed", "the address is suppressed")
    assert (run["status"], run["error"]) == ("skipped", "the address is suppressed")
    assert smtp.letters == []


async def test_who_has_unsubscribed_gets_letters_about_his_own_ads(post: Post, serving: Serving, smtp: SmtpServer):
    post.suppress(READER, "subscribed")

    async with serving():
        row = await post.logged(await post.ask(wish()))

    assert row["status"] == "sent"


async def test_who_wants_no_e_mail_gets_critical_letters_only(post: Post, serving: Serving, smtp: SmtpServer):
    post.prefers(11, channels='["info_table"]')

    async with serving():
        usual = await post.logged(await post.ask(wish(user_id=11)))
        pressing = await post.logged(await post.ask(wish(urgent(), user_id=11)))
        others = await post.logged(await post.ask(wish(user_id=12)))

    assert (usual["status"], usual["error_message"]) == ("suppressed", "its reader wants no e-mail")
    assert (pressing["status"], others["status"]) == ("sent", "sent")


async def test_in_quiet_hours_a_letter_waits_unless_it_is_critical(post: Post, serving: Serving, smtp: SmtpServer):
    now = datetime.now(UTC)
    begin, end = (now - timedelta(hours=2)).time(), (now + timedelta(hours=5)).time()
    post.prefers(11, quiet_from=begin, quiet_until=end, timezone="UTC")

    async with serving():
        asked = await post.ask(wish(user_id=11))
        row = await post.put_off(asked, "wait.30m")
        run = await post.runs.over(asked.message_id)
        pressing = await post.logged(await post.ask(wish(urgent(), user_id=11)))

    assert (row["status"], row["attempts"]) == ("pending", 0)
    assert (run["status"], run["error"]) == ("skipped", "its reader's quiet hours")
    assert pressing["status"] == "sent"


async def test_when_the_quiet_hours_are_over_the_letter_goes(post: Post, serving: Serving, smtp: SmtpServer):
    now = datetime.now(UTC)
    post.prefers(11, quiet_from=(now - timedelta(hours=2)).time(), quiet_until=now.time(), timezone="UTC")

    async with serving():
        row = await post.logged(await post.ask(wish(user_id=11)))

    assert row["status"] == "sent"


async def test_a_letter_that_is_late_is_not_sent(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        asked = await post.ask(wish(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
        row = await post.logged(asked)

    assert (row["status"], row["error_message"]) == ("expired", "not worth sending any more")
    assert smtp.letters == []


async def test_a_letter_keeps_for_as_long_as_its_kind_says(post: Post, serving: Serving, smtp: SmtpServer):
    old = approved(occurred_at=datetime.now(UTC) - approved().keeps_for)

    async with serving():
        row = await post.logged(await post.ask(wish(old)))

    assert row["status"] == "expired"
    assert smtp.letters == []


# What servers do


async def test_while_the_server_is_down_a_letter_waits_longer_and_longer(
    post: Post, serving: Serving, smtp: SmtpServer
):
    smtp.goes_down()
    seen = []

    async with serving():
        asked = await post.ask(wish())
        for queue in ("wait.5m", "wait.30m", "wait.2h"):
            row = await post.put_off(asked, queue)
            seen.append((row["status"], row["attempts"]))
            await post.ask(wish(), id_=asked.message_id)
        await asyncio.sleep(0.3)
        smtp.comes_back()
    async with serving():
        await post.ask(wish(), id_=asked.message_id)
        row = await post.logged(asked)

    assert seen == [("pending", 1), ("pending", 2), ("pending", 3)]
    assert row["status"] == "sent"
    assert len(smtp.letters) == 1
    assert await post.waiting(f"{JOB}.dead") == 0


async def test_a_greylisted_letter_goes_when_it_comes_again(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.greylists()

    async with serving():
        asked = await post.ask(wish())
        first = await post.put_off(asked, "wait.5m")
        await post.ask(wish(), id_=asked.message_id)
        row = await post.logged(asked)

    assert first["reply"] == "451 4.7.1 greylisted, try again later"
    assert (row["status"], row["attempts"]) == ("sent", 2)


async def test_what_the_server_has_put_off_for_three_days_has_failed(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.is_full()
    far = datetime.now(UTC) + timedelta(days=30)

    async with serving():
        asked = await post.ask(wish(expires_at=far))
        await post.put_off(asked, "wait.5m")
        post.passes(timedelta(days=3))
        await post.ask(wish(expires_at=far), id_=asked.message_id)
        row = await post.logged(asked)

    assert (row["status"], row["error_message"]) == ("failed", "given up after 1 attempts in 3 days")
    assert row["reply"] == "452 4.3.1 insufficient system storage"


async def test_a_letter_that_says_no_moment_is_worth_sending_from_when_it_was_asked_for(
    post: Post, serving: Serving, smtp: SmtpServer
):
    smtp.is_full()
    undated = wish(letter=Plain(subject="Hello", paragraphs=["by hand"]))

    async with serving():
        asked = await post.ask(undated)
        await post.put_off(asked, "wait.5m")
        post.passes(Plain.keeps_for)
        await post.ask(undated, id_=asked.message_id)
        row = await post.logged(asked)

    assert row["status"] == "expired"


async def test_a_bad_address_is_suppressed(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.knows_nobody(times=1)

    async with serving():
        asked = await post.ask(wish())
        first = await post.logged(asked)
        run = await post.runs.over(asked.message_id)
        second = await post.logged(await post.ask(wish()))

    assert (first["status"], first["reply"]) == ("failed", "550 5.1.1 no such user here")
    assert (run["status"], run["error"]) == ("partial", "550 5.1.1 no such user here")
    assert second["status"] == "suppressed"
    assert post.suppressed() == {READER: "all"}


async def test_a_letter_that_is_refused_has_failed_and_its_address_is_as_good_as_before(
    post: Post, serving: Serving, smtp: SmtpServer
):
    smtp.answers("dot", "554 5.6.0 what is this?", times=1)

    async with serving():
        row = await post.logged(await post.ask(wish()))

    assert (row["status"], row["reply"]) == ("failed", "554 5.6.0 what is this?")
    assert post.suppressed() == {}


async def test_what_is_our_fault_is_an_alarm_and_the_letter_waits(
    post: Post, serving: Serving, smtp: SmtpServer, log_lines: list[dict[str, Any]]
):
    smtp.refuses_by_policy(times=1)

    async with serving():
        asked = await post.ask(wish())
        row = await post.put_off(asked, "wait.30m")
        await post.ask(wish(), id_=asked.message_id)
        later = await post.logged(asked)

    (alarm,) = (line for line in log_lines if line["event"] == "MAIL SERVER REFUSES US")
    assert alarm["reply"] == "550 5.7.1 message refused by policy"
    assert (row["status"], row["attempts"]) == ("pending", 1)
    assert post.suppressed() == {}
    assert later["status"] == "sent"


@pytest.mark.parametrize("keeps", [True, False])
async def test_a_letter_whose_fate_is_unknown_is_sent_once_more_under_the_same_message_id(
    post: Post, serving: Serving, smtp: SmtpServer, *, keeps: bool
):
    smtp.dies_after_dot(keeps=keeps, times=1)

    async with serving():
        asked = await post.ask(wish())
        row = await post.put_off(asked, "wait.5m")
        await post.ask(wish(), id_=asked.message_id)
        later = await post.logged(asked, "sent")

    assert (row["status"], row["doubts"]) == ("unknown", 1)
    assert (later["attempts"], later["doubts"]) == (2, 1)
    assert len(smtp.letters) == (2 if keeps else 1)
    assert {letter.message["Message-ID"] for letter in smtp.letters} == {row["external_id"]}


async def test_a_letter_whose_fate_is_unknown_twice_stays_so(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.dies_after_dot(keeps=True)

    async with serving():
        asked = await post.ask(wish())
        await post.put_off(asked, "wait.5m")
        await post.ask(wish(), id_=asked.message_id)
        await post.logged(asked, "unknown")

        run = await post.runs.over(asked.message_id)
        third = await post.ask(wish(key=post.row(asked)["key"]))
        skipped = await post.runs.over(third.message_id)

    assert (post.row(asked)["status"], post.row(asked)["doubts"]) == ("unknown", 2)
    assert run["status"] in {"partial", "skipped"}
    assert skipped["status"] == "skipped"
    assert len(smtp.letters) == 2


async def test_a_sender_that_has_died_leaves_a_doubt(post: Post, serving: Serving, smtp: SmtpServer):
    smtp.is_full(times=1)
    async with serving():
        asked = await post.ask(wish())
        await post.put_off(asked, "wait.5m")
        post.sql("UPDATE moderation_notification_logs SET status = 'sending', updated_at = now()")

        await post.ask(wish(), id_=asked.message_id)
        await post.put_off(asked, "wait.1m")
        post.passes(LEASE)
        await post.ask(wish(), id_=asked.message_id)
        row = await post.logged(asked)

    assert (row["status"], row["doubts"], row["attempts"]) == ("sent", 1, 2)


async def test_a_letter_that_was_sent_but_could_not_be_logged_leaves_a_doubt(
    post: Post, serving: Serving, smtp: SmtpServer
):
    post.sql(REFUSES_SENT)

    async with serving():
        asked = await post.ask(wish())
        first = await post.put_off(asked, "wait.10s")
        post.sql("DROP FUNCTION refuse_sent CASCADE")
        post.passes(LEASE)
        await post.ask(wish(), id_=asked.message_id)
        row = await post.logged(asked)

    assert first["status"] == "sending"
    assert (row["status"], row["doubts"], row["attempts"]) == ("sent", 1, 2)
    assert {letter.message["Message-ID"] for letter in smtp.letters} == {row["external_id"]}


REFUSES_SENT = """
    CREATE FUNCTION refuse_sent() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'XX000'; END $$;
    CREATE TRIGGER refuse_sent BEFORE UPDATE ON moderation_notification_logs
    FOR EACH ROW WHEN (NEW.status = 'sent') EXECUTE FUNCTION refuse_sent()
"""


# What cannot be sent


async def test_a_title_that_would_begin_another_header_stays_in_its_line(
    post: Post, serving: Serving, smtp: SmtpServer
):
    async with serving():
        await post.logged(await post.ask(wish(approved(ad_title="Lada\r\nBcc: all@example.com\r\n\r\nwords"))))

    (letter,) = smtp.letters
    assert "Lada Bcc: all@example.com words" in letter.message["Subject"]
    assert letter.message["Bcc"] is None
    assert letter.recipients == (READER,)


async def test_a_subject_that_would_begin_another_header_is_refused(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        run = await post.runs.over((await post.ask(WorkNotDone(letter=INJECTION))).message_id)

    assert run["status"] == "rejected"
    assert smtp.letters == []


INJECTION = {
    "name": "plain",
    "occurred_at": "2026-11-21T12:00:00Z",
    "subject": "News\r\nBcc: all@example.com",
    "paragraphs": ["words"],
}


async def test_an_address_that_no_header_can_hold_is_the_letters_fault(settings: Settings):
    desk = Desk(settings, Transport("smtp://127.0.0.1:1", pace=Pace(), timeout=timedelta(seconds=1)))
    unchecked = MailRequested.model_construct(to="a\r\nb@example.com", letter=approved(), locale="uk")

    fate = await desk.send(unchecked, "<id@example.com>")

    assert fate.outcome == "refused"
    assert "control character" in fate.reply


async def test_a_domain_of_other_letters_is_spoken_as_servers_know_it(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        await post.logged(await post.ask(wish(to="reader@пошта.example.com")), "sent")

    (letter,) = smtp.letters
    assert letter.recipients == ("reader@xn--80a1acn3a.example.com",)


async def test_a_message_that_is_none_dies_alone(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        good = [await post.ask(wish(approved(ad_id=number))) for number in range(5)]
        bad = await post.ask(WorkNotDone())
        more = [await post.ask(wish(approved(ad_id=number))) for number in range(5)]
        for asked in good + more:
            await post.logged(asked, "sent")
        run = await post.runs.over(bad.message_id)

    assert run["status"] == "rejected"
    assert await post.waiting(f"{JOB}.dead") == 1


class WorkNotDone(Message):
    """On the same way, with a body that is no letter's."""

    exchange: ClassVar[str] = "mail"
    routing_key: ClassVar[str] = "mail.requested"

    to: str = "reader@example.com"
    letter: dict[str, Any] | None = None


async def test_a_letter_to_a_row_that_is_not_there_is_sent_all_the_same(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving():
        row = await post.logged(await post.ask(wish(notification_id=4711)))

    assert (row["status"], row["notification_id"]) == ("sent", None)


async def test_a_bug_in_a_template_is_tried_again_and_the_letter_is_as_if_never_taken(
    post: Post, serving: Serving, smtp: SmtpServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("consumers.mail.compose.rendering.Letters.render", _broken)

    async with serving():
        asked = await post.ask(wish())
        row = await post.put_off(asked, "wait.10s")
        run = await post.runs.over(asked.message_id)

    assert (row["status"], row["doubts"]) == ("pending", 0)
    assert row["error_message"] == run["error"] == "RuntimeError: undefined name"
    assert run["status"] == "failed"


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("undefined name")


async def test_managers_letters_count_for_each_reader_alone(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving(digest_above=1):
        first = await post.logged(await post.ask(wish(flagged(), to="one@example.com")))
        second = await post.logged(await post.ask(wish(flagged(), to="two@example.com")))

    assert (first["status"], second["status"]) == ("sent", "sent")
