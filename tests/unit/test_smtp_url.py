"""The mail server's URL."""

import ssl

import pytest

from pocketwatch.errors import SettingsError
from pocketwatch.smtp.url import parse_smtp_url


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
    assert parse_smtp_url(url).port == port


def test_tls_verifies_certificate_and_host_name():
    for url in ("smtps://mail.test", "smtp+starttls://mail.test"):
        context = parse_smtp_url(url).tls_context

        assert context is not None
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname
    assert parse_smtp_url("smtp://mail.test").tls_context is None


def test_user_and_password_are_percent_decoded():
    read = parse_smtp_url("smtps://me%40site.test:p%2Fa%3As%25%D0%BF@mail.test")

    assert (read.user, read.password) == ("me@site.test", "p/a:s%п")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
def test_password_may_be_sent_in_clear_to_this_machine(host: str):
    assert parse_smtp_url(f"smtp://me:secret@{host}").user == "me"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("smtp://me:secret@mail.test", "would send the password in clear to another machine"),
        ("smtp://me:secret@10.0.0.1:25", "use smtp+starttls:// or smtps://"),
        ("http://mail.test", "must be a URL that starts with smtp:// or smtp+starttls:// or smtps:// and names a host"),
        ("smtp:///", "names a host"),
        ("", "names a host"),
        ("smtp://mail.test:port", "the port must be a number from 1 to 65535"),
        ("smtp://mail.test:99999", "the port must be a number from 1 to 65535"),
        (f"smtp://{'x' * 70}.test", "the host is not a valid name or address"),
        ("smtps://me@mail.test", "incomplete login; give user and password, or neither"),
        ("smtps://:secret@mail.test", "incomplete login; give user and password, or neither"),
        ("smtps://me:sec%00ret@mail.test", "NUL in the password; remove %00"),
        ("smtps://mail.test/inbox", "text after host and port"),
        ("smtps://mail.test?timeout=3", "text after host and port"),
        ("smtps://me:sec@ret#@mail.test", "/ ? # or @ at an unexpected place"),
        ("smtps://me:secret/more@mail.test", "/ ? # or @ at an unexpected place"),
    ],
)
def test_invalid_url_is_refused_without_showing_the_password(url: str, words: str):
    with pytest.raises(SettingsError) as refused:
        parse_smtp_url(url)

    assert words in str(refused.value)
    assert 'SMTP_URL is "' in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "sec@ret" not in str(refused.value)


def test_repr_hides_the_password():
    read = parse_smtp_url("smtps://me:secret@mail.test")

    assert "secret" not in repr(read)
    assert "secret" in read.secrets
