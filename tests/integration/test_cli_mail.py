"""`notices`, `mail suppressed` and `mail forget`, as an operator calls them."""

from tests.fixtures.mail import READER, Post, Serving, wish
from tests.fixtures.smtp import SmtpServer
from tests.fixtures.suite import Program


async def test_the_log_shows_what_became_of_each_letter_newest_first(
    post: Post, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    async with serving():
        await post.logged(await post.ask(wish()))
        smtp.answers("dot", "554 5.6.0 what is this?", times=1)
        await post.logged(await post.ask(wish(to="other@example.com", locale="en")))

    everything = pocketwatch.json("notices")
    failed = pocketwatch.json("notices", "--status", "failed")
    his = pocketwatch.json("notices", "--recipient", "Reader@Example.com")
    table = pocketwatch("notices").stdout

    assert [row["status"] for row in everything] == ["failed", "sent"]
    assert [(row["recipient"], row["reply"]) for row in failed] == [("other@example.com", "554 5.6.0 what is this?")]
    assert [row["recipient"] for row in his] == [READER]
    assert "554 5.6.0 what is this?" in table
    assert len(pocketwatch.json("notices", "--limit", "1")) == 1


def test_a_status_that_there_is_not_is_refused(pocketwatch: Program):
    refused = pocketwatch("notices", "--status", "lost")

    assert refused.returncode == 1
    assert "known are pending, sending, sent" in refused.stderr


async def test_an_address_that_was_suppressed_gets_letters_again(
    post: Post, serving: Serving, smtp: SmtpServer, pocketwatch: Program
):
    post.suppress(READER)
    post.suppress(READER, "subscribed")

    (first, second) = pocketwatch.json("mail", "suppressed")
    table = pocketwatch("mail", "suppressed").stdout
    done = pocketwatch("mail", "forget", "Reader@example.com")
    again = pocketwatch("mail", "forget", READER)
    async with serving():
        row = await post.logged(await post.ask(wish()))

    assert {first["scope"], second["scope"]} == {"all", "subscribed"}
    assert READER in table
    assert done.returncode == 0
    assert "all, subscribed" in done.stdout
    assert (again.returncode, pocketwatch.json("mail", "suppressed")) == (1, [])
    assert row["status"] == "sent"
