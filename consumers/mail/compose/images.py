"""The images of a letter, which its HTML shows by `cid:`."""

from base64 import b64decode, b64encode

from consumers.mail.compose.mime import Attachment
from schemas.emails import DailyReport, Email


def of(letter: Email) -> list[Attachment]:
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


def inlined(html: str, letter: Email) -> str:
    """The HTML with its images in it: for a browser, which sees no other part of the letter."""
    for picture in of(letter):
        data = f"data:{picture.media_type};base64,{b64encode(picture.data).decode()}"
        html = html.replace(f'src="cid:{picture.content_id}"', f'src="{data}"')
    return html
