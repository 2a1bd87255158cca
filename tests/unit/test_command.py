"""The user name of the caller of a command."""

import os

import pytest

from pocketwatch.command import current_user
from pocketwatch.errors import PocketwatchError


@pytest.fixture
def nameless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process as in a container that runs under a numeric user id."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54_321)


@pytest.mark.usefixtures("nameless")
def test_user_without_a_name_is_asked_for_one():
    with pytest.raises(PocketwatchError) as caught:
        current_user(option="--author")

    assert str(caught.value) == "user 54321 has no name on this machine; name yourself with --author"
