"""The console's pages of emails, as an operator uses them."""

from datetime import UTC, datetime

import pytest
from playwright.async_api import Page

from consumers.mail.compose.samples import SAMPLES
from schemas.emails import PlainEmail
from tests.fixtures.console import check_page
from tests.fixtures.mail import MailTester, Serving, approved, request_for
from tests.fixtures.smtp import SmtpServer
from tests.support.waiting import eventually

HOSTILE = "<script>document.title = 'broken'</script><img src=x onerror=alert(1)>"
SAID = "554 5.6.0 <b>no</b> \u202eevil"


@pytest.fixture
async def delivered(mail: MailTester, serving: Serving, smtp: SmtpServer) -> None:
    """One email that was sent, one that was refused with hostile words, and one to a suppressed address."""
    async with serving():
        await mail.logged(await mail.publish(request_for()))
        smtp.replies("end_of_data", "554 5.6.0 what is this?", times=1)
        refused = request_for(approved(ad_title=HOSTILE, ad_id=8), to="other@example.com", locale="en")
        await mail.logged(await mail.publish(refused))
        mail.suppress("gone@example.com")
        await mail.logged(await mail.publish(request_for(to="gone@example.com")))
    mail.sql("UPDATE moderation_notification_logs SET reply = %(said)s WHERE status = 'failed'", said=SAID)


async def test_state_and_words_of_each_email_are_shown(browser_page: Page, delivered: None):
    await browser_page.goto("/emails")

    rows = [await row.inner_text() for row in await browser_page.locator("tbody tr").all()]
    assert ["suppressed" in rows[0], "failed" in rows[1], "sent" in rows[2]] == [True] * 3
    assert HOSTILE in rows[1]
    assert "554 5.6.0" in rows[1]
    assert await browser_page.title() == "Emails · Pocketwatch"
    assert "2 not delivered" in await browser_page.inner_text(".cards")
    await check_page(browser_page, "emails")

    await browser_page.get_by_label("State", exact=True).select_option("failed")
    await browser_page.get_by_label("Recipient begins with").fill("OTHER@")
    await browser_page.get_by_role("button", name="Filter").click()
    await browser_page.wait_for_url("**state=failed**")
    assert await browser_page.locator("tbody tr").count() == 1


async def test_refused_email_is_read_and_sent_again(
    browser_page: Page, delivered: None, mail: MailTester, serving: Serving, smtp: SmtpServer, relay: None
):
    await browser_page.goto("/emails?state=failed")
    await browser_page.get_by_role("link", name="other@example.com").click()
    body = browser_page.frame_locator("iframe").locator("body")
    await body.wait_for()
    assert HOSTILE in await body.inner_text()
    assert HOSTILE in await browser_page.locator("pre").inner_text()
    assert "<b>no</b> \\u202eevil" in await browser_page.inner_text("dl")
    await check_page(browser_page, "email")

    await browser_page.get_by_label("Reason").fill("the server knows us now")
    await browser_page.get_by_role("button", name="Send again").click()
    await browser_page.get_by_role("status").wait_for()
    async with serving():
        await eventually(lambda: _sent_to(mail, "other@example.com"))
    await browser_page.reload()
    assert "Sent again as" in await browser_page.inner_text("dl")
    (action,) = mail.sql("SELECT * FROM operator_actions")
    assert (action["action"], action["reason"]) == ("email.resend", "the server knows us now")


async def _sent_to(mail: MailTester, recipient: str) -> bool:
    return any(row["recipient"] == recipient and row["status"] == "sent" for row in mail.log())


async def test_all_failed_emails_are_sent_again(browser_page: Page, delivered: None, mail: MailTester):
    browser_page.on("dialog", lambda dialog: dialog.accept())
    await browser_page.goto("/emails?state=failed")
    await browser_page.get_by_role("button", name="Send all 1 again").click()

    assert "1 email was requested again." in await browser_page.get_by_role("status").inner_text()
    (row,) = mail.sql(
        "SELECT payload FROM outbox WHERE routing_key = 'mail.requested' AND payload ->> 'key' LIKE '%%#%%'"
    )
    assert row["payload"]["to"] == "other@example.com"


async def test_addresses_are_suppressed_and_released_with_a_reason(browser_page: Page, mail: MailTester):
    await browser_page.goto("/emails/suppressed")
    await browser_page.locator("#new-address").fill("Reader@Example.com")
    await browser_page.get_by_label("Reason", exact=True).fill("asked by phone <b>")
    await browser_page.get_by_role("button", name="Suppress").click()
    await browser_page.get_by_role("link", name="reader@example.com").wait_for()
    await check_page(browser_page, "emails-suppressed")

    await browser_page.get_by_label("Reason to remove reader@example.com").fill("a mistake")
    await browser_page.get_by_role("button", name="Remove").click()
    await browser_page.get_by_text("No address is suppressed.").wait_for()

    actions = mail.sql("SELECT action, reason FROM operator_actions ORDER BY id")
    assert [(row["action"], row["reason"]) for row in actions] == [
        ("email.suppress", "asked by phone <b>"),
        ("email.unsuppress", "a mistake"),
    ]


async def test_templates_are_shown_in_every_language(browser_page: Page):
    await browser_page.goto("/emails/preview")
    assert await browser_page.locator("tbody tr").count() == len(SAMPLES)
    await check_page(browser_page, "emails-templates")

    await browser_page.get_by_role("link", name="ad_rejected in en").click()
    assert "rejected" in (await browser_page.locator("strong").inner_text()).lower()
    await (
        browser_page.frame_locator("iframe")
        .locator("h1, h2, p, td")
        .filter(has_text="Toyota Camry 2019")
        .first.wait_for()
    )
    await check_page(browser_page, "emails-preview")


async def test_frame_of_an_email_runs_no_script_and_loads_nothing(
    browser_page: Page, mail: MailTester, serving: Serving
):
    plain = PlainEmail(occurred_at=datetime.now(UTC), subject="Hello", paragraphs=["x"])
    async with serving():
        row = await mail.logged(await mail.publish(request_for(plain)))

    answer = await browser_page.request.get(f"/emails/{row['id']}/body")

    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert (await browser_page.request.get("/emails/99999999/body")).status == 404
    assert (await browser_page.request.get("/emails/99999999999999999999")).status == 404
