"""The images of an email, which its HTML shows by `cid:`."""

import asyncio
from base64 import b64encode
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from consumers.mail.compose.charts import charts_of, png
from consumers.mail.compose.mime import Attachment
from schemas.emails import DailyReportEmail, Email
from schemas.locale import LOCALES, Locale

DRAWING = ThreadPoolExecutor(1, thread_name_prefix="charts")  # one: Matplotlib is not thread-safe


async def load(email: Email, locale: Locale) -> list[Attachment]:
    """Return the images of an email; a report's charts are drawn in a thread, once per locale."""
    if not isinstance(email, DailyReportEmail):
        return []
    return await asyncio.get_running_loop().run_in_executor(DRAWING, images_of, email, locale)


def images_of(email: Email, locale: Locale) -> list[Attachment]:
    if not isinstance(email, DailyReportEmail):
        return []
    return _drawn(email.model_dump_json(include={"day", "figures", "history"}), locale)


@lru_cache(maxsize=len(LOCALES))
def _drawn(report: str, locale: Locale) -> list[Attachment]:
    email = DailyReportEmail.model_validate_json(report)
    return [
        Attachment(
            content_id=chart.content_id, file_name=f"{chart.content_id}.png", media_type="image/png", data=png(chart)
        )
        for chart in charts_of(email, locale)
    ]


def inline(html: str, images: Sequence[Attachment]) -> str:
    """Return the HTML with its images in it, for a browser, which sees no other part of the email."""
    for image in images:
        data = f"data:{image.media_type};base64,{b64encode(image.data).decode()}"
        html = html.replace(f'src="cid:{image.content_id}"', f'src="{data}"')
    return html
