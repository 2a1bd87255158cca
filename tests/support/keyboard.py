"""A page that is used by its keyboard only."""

from playwright.async_api import Locator, Page

LONGEST_WAY = 150  # stops
IS_MARKED = "element => { const style = getComputedStyle(element); return style.outlineStyle !== 'none'; }"


async def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until an element has the focus, and check that the page shows it."""
    await wanted.wait_for()
    for _ in range(LONGEST_WAY):
        await page.keyboard.press("Tab")
        if await wanted.evaluate("element => element === document.activeElement"):
            assert await wanted.evaluate(IS_MARKED), f"the focus of {wanted} cannot be seen"
            return
    raise AssertionError(f"{wanted} is not reached by Tab")


async def press(page: Page, wanted: Locator, key: str = "Enter") -> None:
    """Go to an element, and press a key on it."""
    await tab_to(page, wanted)
    await page.keyboard.press(key)


async def type_into(page: Page, wanted: Locator, text: str) -> None:
    """Go to a field, and replace its content."""
    await tab_to(page, wanted)
    await page.keyboard.press("Control+a")
    await page.keyboard.type(text)
