"""The images of a letter, which its HTML shows by `cid:`."""

from base64 import b64decode

from consumers.mail.mime import Attachment
from schemas.letters import DailyReport, Letter


def of(letter: Letter) -> list[Attachment]:
    """What goes with the letter: the charts of a report, with any other letter nothing."""
    if not isinstance(letter, DailyReport):
        return []
    return [
        Attachment(
            content_id=chart.content_id,
            file_name=f"{chart.content_id}.png",
            media_type="image/png",
            data=b64decode(chart.png),
        )
        for chart in letter.charts
    ]
