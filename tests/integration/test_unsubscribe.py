"""mail.unsubscribe, and the List-Unsubscribe header."""

from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from pydantic import SecretStr

from consumers.mail import unsubscribe
from pocketwatch.errors import Reject
from pocketwatch.settings import Mail, Settings
from schemas.emails import AnyEmail, ManagerDigestEmail
from schemas.mail import MailUnsubscribed
from tests.fixtures.mail import RECIPIENT, MailTester, Serving, approved, request_for
from tests.fixtures.smtp import SmtpServer

PAGE = "https://shop.example/unsubscribe/"
SECRET = SecretStr("a secret of the tests, long enough")
OPEN = {"unsubscribe_url": PAGE, "token_secret": SECRET}


def signed(secret: str = SECRET.get_secret_value(), algorithm: str = "HS256", **changes: Any) -> str:
    claims = {"purpose": "unsubscribe", "address": RECIPIENT, "scope": "subscribed"} | changes
    return jwt.encode(claims, secret, algorithm)


def unsigned(header: bytes) -> str:
    return f"{urlsafe_b64encode(header).decode().rstrip('=')}.e30.AAAA"


def digest() -> ManagerDigestEmail:
    item = {"kind": "manager_ad_flagged", "ad_id": 7, "title": "Lada Niva", "at": datetime.now(UTC), "url": None}
    return ManagerDigestEmail.model_validate({"items": [item], "occurred_at": datetime.now(UTC)})


async def header(mail: MailTester, serving: Serving, smtp: SmtpServer, email: AnyEmail, **changes: Any) -> str | None:
    async with serving(**changes):
        await mail.logged(await mail.publish(request_for(email)), "sent")
    found: str | None = smtp.emails[-1].message["List-Unsubscribe"]
    return found


async def test_one_click_suppresses_digests_to_the_address(mail: MailTester, serving: Serving, smtp: SmtpServer):
    url = await header(mail, serving, smtp, digest(), **OPEN)
    assert url is not None
    assert url.startswith(f"<{PAGE}")
    token = url[len(PAGE) + 1 : -1]

    async with serving(**OPEN):
        for _ in range(2):
            run = await mail.runs.over((await mail.publish(MailUnsubscribed(token=token))).message_id)
            assert run["status"] == "succeeded"
        second = await mail.logged(await mail.publish(request_for(digest())))
        other = await mail.logged(await mail.publish(request_for(approved())))

    assert mail.suppressed() == {RECIPIENT: "subscribed"}
    assert (second["status"], second["error_message"]) == ("suppressed", "recipient has unsubscribed")
    assert other["status"] == "sent"


async def test_emails_about_own_ads_have_no_unsubscribe_header(mail: MailTester, serving: Serving, smtp: SmtpServer):
    assert await header(mail, serving, smtp, approved(), **OPEN) is None


@pytest.mark.parametrize("missing", OPEN)
async def test_no_unsubscribe_header_without_a_page_or_secret(
    mail: MailTester, serving: Serving, smtp: SmtpServer, missing: str
):
    assert await header(mail, serving, smtp, digest(), **OPEN | {missing: None}) is None


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
async def test_invalid_token_is_dead_lettered_and_not_shown(
    mail: MailTester, serving: Serving, smtp: SmtpServer, log_lines: list[dict[str, Any]], token: str
):
    async with serving(**OPEN):
        requested = await mail.publish(MailUnsubscribed(token=token))
        run = await mail.runs.over(requested.message_id)

    assert run["status"] == "dead"
    assert token not in str(run) + str(log_lines)
    assert mail.suppressed() == {}


async def test_no_token_is_accepted_without_a_secret(mail: MailTester, serving: Serving, smtp: SmtpServer):
    async with serving(token_secret=None):
        run = await mail.runs.over((await mail.publish(MailUnsubscribed(token=signed()))).message_id)

    assert run["status"] == "dead"
    assert "POCKETWATCH_WEB_TOKEN_SECRET" in run["error"]


def test_token_does_not_expire_and_has_the_address_in_lower_case(settings: Settings):
    mail = Mail().model_copy(update=OPEN)
    url = unsubscribe.url_for("Reader@Example.com", mail)
    assert url is not None

    assert unsubscribe.verify(url.removeprefix(PAGE), mail) == ("reader@example.com", "subscribed")
    assert "exp" not in jwt.decode(url.removeprefix(PAGE), options={"verify_signature": False})


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 1_400,
        b'{"alg":' * 200,
        b"[]",
        b"null",
        b"\xff",
        b'{"alg":[]}',
        b'{"alg":{}}',
        b'{"alg":null}',
        b'{"alg":"none"}',
        b'{"alg":"HS256","crit":["b64"],"b64":false}',
        b'{"alg":"HS256","kid":1}',
    ],
)
def test_token_with_a_hostile_header_is_refused(header: bytes):
    mail = Mail().model_copy(update=OPEN)

    with pytest.raises(Reject, match="invalid unsubscribe token"):
        unsubscribe.verify(unsigned(header), mail)
