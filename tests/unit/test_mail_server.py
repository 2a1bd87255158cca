"""The URL of the mail server, read and refused."""

import ssl

import pytest

from pocketwatch.errors import SettingsError
from pocketwatch.smtp.url import server


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("smtp://mail.test", 25),
        ("smtp://[::1]:2525/", 2525),
        ("smtp+starttls://mail.test", 587),
        ("smtps://mail.test", 465),
        ("smtps://mail.test:4650", 4650),
    ],
)
def test_each_scheme_has_its_port(url: str, port: int):
    assert server(url).port == port


def test_tls_checks_the_certificate_and_the_name():
    for url in ("smtps://mail.test", "smtp+starttls://mail.test"):
        context = server(url).context

        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
    assert server("smtp://mail.test").context is None


def test_user_and_password_are_percent_decoded():
    read = server("smtps://me%40site.test:p%2Fa%3As%25%D0%BF@mail.test")

    assert (read.user, read.password) == ("me@site.test", "p/a:s%п")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_a_password_may_go_in_clear_to_this_machine(host: str):
    assert server(f"smtp://me:secret@{host}").user == "me"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("smtp://me:secret@mail.test", "would send the password in clear to another machine"),
        ("smtp://me:secret@10.0.0.1:25", "use smtp+starttls:// or smtps://"),
        ("http://mail.test", "must be a URL that starts with smtp://, smtps:// or smtp+starttls://"),
        ("smtp:///", "and names a host"),
        ("", "must be a URL"),
        ("smtp://mail.test:port", "has a host or port that is none"),
        ("smtp://mail.test:99999", "has a host or port that is none"),
        (f"smtp://{'x' * 70}.test", "has a host or port that is none"),
        ("smtps://me@mail.test", "must name a user and a password, or neither"),
        ("smtps://:secret@mail.test", "must name a user and a password, or neither"),
        ("smtps://me:sec%00ret@mail.test", "must not hold a NUL"),
        ("smtps://mail.test/inbox", "must end with the host or its port"),
        ("smtps://mail.test?timeout=3", "must end with the host or its port"),
        ("smtps://me:sec@ret#@mail.test", "must end with the host or its port"),
        ("smtps://me:secret/more@mail.test", "has a host or port that is none"),
    ],
)
def test_what_cannot_be_used_is_refused_and_no_password_told(url: str, words: str):
    with pytest.raises(SettingsError) as refused:
        server(url)

    assert words in str(refused.value)
    assert 'SMTP_URL is "' in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sec@ret" not in str(refused.value)


def test_the_password_is_in_no_representation():
    read = server("smtps://me:secret@mail.test")

    assert "secret" not in repr(read)
    assert "secret" in read.secrets
