"""What would fail every email refuses to start."""

import pytest

from consumers.mail import sender
from pocketwatch.errors import SettingsError
from pocketwatch.settings import load
from pocketwatch.storage.database import Database


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("POCKETWATCH_MAIL_FROM", "Shop <no..reply@shop.example>"),
        ("POCKETWATCH_UNSUBSCRIBE_URL", "https://shop.example/un subscribe/"),
        ("SMTP_URL", "smtp://user:secret@mail.example:25"),
    ],
)
async def test_setting_that_would_fail_every_email_refuses_to_start(name: str, value: str, tmp_path):
    usual = {"SMTP_URL": "smtp://127.0.0.1:1", "POCKETWATCH_WEB_TOKEN_SECRET": "s" * 32}
    database = Database("postgresql://nowhere")

    with pytest.raises(SettingsError, match=name) as refused:
        async with sender.open_sender(load(usual | {name: value}, folder=tmp_path), database):
            pass

    assert "secret@" not in str(refused.value)
    await database.close()
