"""mail.unsubscribe, and the header of letters that one can unsubscribe from."""

from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from consumers.mail import unsubscribe
from pocketwatch.settings import Mail, Settings
from schemas.emails import AnyEmail, ManagerDigest
from schemas.mail import MailUnsubscribed
from tests.fixtures.mail import READER, Post, Serving, approved, wish
from tests.fixtures.smtp import SmtpServer

PAGE = "https://shop.example/unsubscribe/"
SECRET = SecretStr("a secret of the tests, long enough")
OPEN = {"unsubscribe_url": PAGE, "token_secret": SECRET}


def signed(secret: str = SECRET.get_secret_value(), algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"purpose": "unsubscribe", "address": READER, "scope": "subscribed"} | changes
    return jwt.encode(claims, secret, algorithm)


def digest() -> ManagerDigest:
    item = {"kind": "manager_ad_flagged", "ad_id": 7, "title": "Lada Niva", "at": datetime.now(UTC), "url": None}
    return ManagerDigest.model_validate({"items": [item], "occurred_at": datetime.now(UTC)})


async def header(post: Post, serving: Serving, smtp: SmtpServer, letter: AnyEmail, **mail: Any) -> str | None:
    async with serving(**mail):
        await post.logged(await post.ask(wish(letter)), "sent")
    found: str | None = smtp.letters[-1].message["List-Unsubscribe"]
    return found


async def test_one_click_on_a_digest_suppresses_digests_to_that_address(post: Post, serving: Serving, smtp: SmtpServer):
    url = await header(post, serving, smtp, digest(), **OPEN)
    assert url is not None
    assert url.startswith(f"<{PAGE}")
    token = url[len(PAGE) + 1 : -1]

    async with serving(**OPEN):
        for _ in range(2):
            run = await post.runs.over((await post.ask(MailUnsubscribed(token=token))).message_id)
            assert run["status"] == "succeeded"
        second = await post.logged(await post.ask(wish(digest())))
        other = await post.logged(await post.ask(wish(approved())))

    assert post.suppressed() == {READER: "subscribed"}
    assert (second["status"], second["error_message"]) == ("suppressed", "its reader has unsubscribed")
    assert other["status"] == "sent"


async def test_letters_about_ones_own_ads_carry_no_such_header(post: Post, serving: Serving, smtp: SmtpServer):
    assert await header(post, serving, smtp, approved(), **OPEN) is None


@pytest.mark.parametrize("missing", OPEN)
async def test_without_a_page_or_a_secret_there_is_no_such_header(
    post: Post, serving: Serving, smtp: SmtpServer, missing: str
):
    assert await header(post, serving, smtp, digest(), **OPEN | {missing: None}) is None


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        signed("another secret, just as long as ours"),
        signed(purpose="login"),
        signed(scope="all"),
        signed(address=7),
        signed()[:-2],
        signed(secret="", algorithm="none"),
    ],
)
async def test_a_token_that_is_none_of_ours_is_a_dead_letter_and_is_not_shown(
    post: Post, serving: Serving, smtp: SmtpServer, log_lines: list[dict[str, Any]], token: str
):
    async with serving(**OPEN):
        asked = await post.ask(MailUnsubscribed(token=token))
        run = await post.runs.over(asked.message_id)

    assert run["status"] == "dead"
    assert token not in str(run) + str(log_lines)
    assert post.suppressed() == {}


async def test_without_a_secret_no_token_is_believed(post: Post, serving: Serving, smtp: SmtpServer):
    async with serving(token_secret=None):
        run = await post.runs.over((await post.ask(MailUnsubscribed(token=signed()))).message_id)

    assert run["status"] == "dead"
    assert "POCKETWATCH_WEB_TOKEN_SECRET" in run["error"]


def test_a_token_does_not_expire_and_names_the_address_in_lower_case(settings: Settings):
    mail = Mail().model_copy(update=OPEN)
    url = unsubscribe.url_for("Reader@Example.com", mail)
    assert url is not None

    assert unsubscribe.read(url.removeprefix(PAGE), mail) == ("reader@example.com", "subscribed")
    assert "exp" not in jwt.decode(url.removeprefix(PAGE), options={"verify_signature": False})
