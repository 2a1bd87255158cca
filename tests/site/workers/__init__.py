"""Some of the site's own tasks, which stay with Celery: they write what they have done to files.

`calls.py` sends them; a worker runs them: `celery -A tests.site.celery_app worker --queues …`.
"""

import json
from pathlib import Path
from typing import Any

from celery import shared_task


@shared_task(bind=True, name="core.services.image_service.process_image_async")
def process_image_async(self: Any, image_path: str) -> dict[str, Any]:
    """Make a thumbnail."""
    thumbnail = Path(f"{image_path}.small")
    _write(thumbnail, self.request.id)
    return {"thumbnail": str(thumbnail), "task_id": self.request.id}


@shared_task(bind=True, name="core.services.image_service.optimize_image_async")
def optimize_image_async(self: Any, image_path: Any, quality: int = 85) -> str:
    """Optimise an image, or the thumbnail that the task before has made."""
    image = image_path["thumbnail"] if isinstance(image_path, dict) else image_path
    _write(Path(f"{image}.{quality}"), self.request.id)
    return f"{image}.{quality}"


@shared_task(bind=True, name="core.services.push_service.send_bulk_push_notification_async", max_retries=3)
def send_bulk_push_notification_async(
    self: Any, device_tokens: list[str], title: str, body: str, data: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Fail for the first time, as when the service of the notifications does not answer."""
    if self.request.retries == 0 and title == "retried":
        raise self.retry(countdown=0)
    sent = {"title": title, "body": body, "devices": len(device_tokens), "data": data}
    _write(Path(device_tokens[0]), json.dumps(sent))
    return sent


def _write(file: Path, text: str) -> None:
    """Write a file that is complete as soon as it is there."""
    draft = file.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(file)
