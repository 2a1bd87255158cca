"""The console's pages of moderation, as an operator uses them."""

from pathlib import Path

from playwright.async_api import Page

from tests.fixtures.console import check_page
from tests.fixtures.moderation import CLEAN, PHONE, Review, Submitted, rule_file


async def test_decisions_are_shown_with_the_words_that_made_them(
    browser_page: Page, review: Review, submitted: Submitted
):
    phone, clean = submitted.add(f"{PHONE} <b>x</b>"), submitted.add(CLEAN)
    await review(phone)
    await review(clean)

    await browser_page.goto("/moderation")
    rows = [await row.inner_text() for row in await browser_page.locator("tbody tr").all()]
    assert ["approve" in rows[0], "needs_edit" in rows[1]] == [True, True]
    assert "contact.phone" in rows[1]
    assert "067 123 45 67" in rows[1]
    await check_page(browser_page, "moderation")

    await browser_page.get_by_role("link", name="contact.phone").click()
    await browser_page.wait_for_url("**rule=contact.phone**")
    assert await browser_page.locator("tbody tr").count() == 1
    await browser_page.get_by_role("link", name=str(phone), exact=True).click()
    assert await browser_page.inner_text("h1") == f"Ad {phone}"
    assert "contact.phone" in await browser_page.inner_text("main")
    await check_page(browser_page, "moderation-ad")

    answer = await browser_page.goto("/moderation/ads/99999999")
    assert answer is not None
    assert answer.status == 404


async def test_history_of_an_ad_has_notifications_and_emails(browser_page: Page, submitted: Submitted):
    submitted.execute(
        "INSERT INTO owner_notifications (user_id, action, title, message, ad_id, data) "
        "VALUES (3, 'approve', 'Ad <i>approved</i>', 'It is on the site', 7, '{}')"
    )
    submitted.execute(
        "INSERT INTO moderation_notification_logs (method, recipient, status, error_message, sent_at, external_id, "
        "key, letter, locale, state, requested_at, request) "
        "VALUES ('email', 'o@example.com', 'sent', '', now(), '', 'k', "
        """'ad_approved', 'uk', 'sent', now(), '{"letter": {"name": "ad_approved", "ad_id": 7, "ad_title": "Lada"}}')"""
    )

    await browser_page.goto("/moderation/ads/7")

    text = await browser_page.inner_text("main")
    assert "Ad <i>approved</i>" in text
    assert "o@example.com" in text
    assert "No decision about this ad is recorded." in text


async def test_rules_are_replayed_on_past_ads(browser_page: Page, review: Review, submitted: Submitted, tmp_path: Path):
    for text in (f"{CLEAN} Winter гума.", CLEAN):
        await review(submitted.add(text))
    before = submitted.rows("SELECT * FROM moderation_decisions ORDER BY id")
    rules = rule_file(tmp_path / "new.toml", "winter").read_text()

    await browser_page.goto("/moderation/replay")
    area = browser_page.get_by_label("Rules (TOML)")
    assert "contact.phone" in await area.input_value()
    await area.fill(rules.replace('severity = "flag"', 'severity = "loud"'))
    await browser_page.get_by_role("button", name="Replay").click()
    await browser_page.locator(".error").wait_for()
    assert "test.winter" in await browser_page.locator(".error").inner_text()
    assert await area.get_attribute("aria-invalid") == "true"

    await area.fill(rules)
    await browser_page.get_by_role("button", name="Replay").click()
    await browser_page.locator("#result").wait_for()
    assert await browser_page.inner_text("#result") == "1 of 2 verdicts would change"
    assert "The word winter." in await browser_page.inner_text("main")
    assert await area.input_value() == rules
    await check_page(browser_page, "moderation-replay")
    assert submitted.rows("SELECT * FROM moderation_decisions ORDER BY id") == before


async def test_deeply_nested_rules_are_refused(browser_page: Page):
    await browser_page.goto("/moderation/replay")
    await browser_page.get_by_label("Rules (TOML)").fill("a = " + "[" * 20_000)
    await browser_page.get_by_role("button", name="Replay").click()

    assert "cannot be read" in await browser_page.locator(".error").inner_text()
