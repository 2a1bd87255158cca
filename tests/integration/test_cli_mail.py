"""`notices`, `mail suppressed` and `mail forget`, as an operator calls them."""

from tests.fixtures.mail import RECIPIENT, MailTester, Serving, request_for
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Program


async def test_notices_shows_the_log_newest_first(
    mail: MailTester, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    async with serving():
        await mail.logged(await mail.publish(request_for()))
        smtp.replies("end_of_data", "554 5.6.0 what is this?", times=1)
        await mail.logged(await mail.publish(request_for(to="other@example.com", locale="en")))
        mail.suppress("suppressed@example.com")
        await mail.logged(await mail.publish(request_for(to="suppressed@example.com")))

    everything = pocketwatch.json("notices")
    failed = pocketwatch.json("notices", "--status", "failed")
    undelivered = pocketwatch.json("notices", "--undelivered")
    theirs = pocketwatch.json("notices", "--recipient", "Reader@Example.com")
    table = pocketwatch("notices").stdout

    assert [row["status"] for row in everything] == ["suppressed", "failed", "sent"]
    assert [list(row).index("status") for row in everything] == [3, 3, 3]
    assert [(row["requested_at"] is not None, row["sent_at"] is not None) for row in everything] == [
        (True, False),
        (True, False),
        (True, True),
    ]
    assert [(row["ad_id"], row["about"]) for row in everything] == [(7, "Lada Niva")] * 3
    assert [row["status"] for row in undelivered] == ["suppressed", "failed"]
    assert [(row["recipient"], row["reply"]) for row in failed] == [("other@example.com", "554 5.6.0 what is this?")]
    assert [row["recipient"] for row in theirs] == [RECIPIENT]
    assert "554 5.6.0 what is this?" in table
    assert len(pocketwatch.json("notices", "--limit", "1")) == 1


def test_unknown_status_is_refused(pocketwatch: Program):
    refused = pocketwatch("notices", "--status", "lost")

    assert refused.returncode == 1
    assert "known: pending, sending, sent" in refused.stderr


async def test_forgotten_address_gets_emails_again(
    mail: MailTester, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    mail.suppress(RECIPIENT)
    mail.suppress(RECIPIENT, "subscribed")

    (first, second) = pocketwatch.json("mail", "suppressed")
    table = pocketwatch("mail", "suppressed").stdout
    done = pocketwatch("mail", "forget", "Reader@example.com")
    again = pocketwatch("mail", "forget", RECIPIENT)
    async with serving():
        row = await mail.logged(await mail.publish(request_for()))

    assert {first["scope"], second["scope"]} == {"all", "subscribed"}
    assert RECIPIENT in table
    assert done.returncode == 0
    assert "all, subscribed" in done.stdout
    assert (again.returncode, pocketwatch.json("mail", "suppressed")) == (1, [])
    assert row["status"] == "sent"
