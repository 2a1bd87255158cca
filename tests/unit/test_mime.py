"""Built messages, as the standard library parses them."""

import email.policy
import re
from datetime import UTC, datetime, timedelta, timezone
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from consumers.mail.compose.headers import CONTROL, message_id
from consumers.mail.compose.mime import Attachment, build
from consumers.mail.compose.rendering import RenderedEmail
from consumers.mail.compose.samples import SAMPLES, SITE, UNSUBSCRIBE

no_deadline = settings(deadline=None)
AT = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
ID = "<4711@cars.example>"
HELLO = RenderedEmail("Hello", "Hello\n", "<p>Hello</p>\n", "en")
PIXEL = Attachment(content_id="chart-1", file_name="chart.png", media_type="image/png", data=bytes(range(256)) * 3)

characters = st.characters(exclude_categories=["Cs"])
printable = st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])
subjects = (
    st.text(printable, max_size=200)
    | st.text("абвг їґє😀👨\u200d👩é", max_size=200)
    | st.text('ab =?_"<>,;', max_size=200)
)
bodies = st.text(characters) | st.lists(
    st.sampled_from(["", ".", "..", ".x", "From x", "--=_", "слово" * 40, "x" * 300, "😀"]), max_size=8
).flatmap(lambda lines: st.sampled_from(["\n", "\r\n", "\r"]).map(lambda newline: newline.join(lines)))


def message_bytes(rendered: RenderedEmail = HELLO, **changes: Any) -> bytes:
    usual: dict[str, Any] = {"sender": SITE.sender, "to": "reader@mail.example", "message_id": ID, "date": AT}
    return build(rendered, **{**usual, "unsubscribe_url": None, **changes})


def parse(data: bytes) -> EmailMessage:
    message = BytesParser(policy=email.policy.default).parsebytes(data)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
        assert all(value.defects == () for value in part.values() if hasattr(value, "defects"))
    return message


def body(message: EmailMessage, form: str) -> str:
    part = message.get_body((form,))
    assert part is not None
    return part.get_content()


def newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@no_deadline
@given(subject=subjects, text=bodies, html=bodies)
@example(subject="x" * 69, text="", html="")
@example(subject="x" * 70, text="\n", html="\r")
@example(subject=" edge ", text=".\n.\n", html="a\rb\nc\r\nd")
@example(subject="=?utf-8?q?no?=", text="", html="")
def test_parsed_message_equals_the_input(subject, text, html):
    message = parse(message_bytes(RenderedEmail(subject, text, html, "uk")))

    assert message["Subject"] == subject
    assert newlines(body(message, "plain")) == newlines(text)
    assert newlines(body(message, "html")) == newlines(html)


@no_deadline
@given(subject=subjects, text=bodies)
def test_lines_are_short_ascii_and_end_with_crlf(subject, text):
    data = message_bytes(RenderedEmail(subject, text, text, "uk"), unsubscribe_url=UNSUBSCRIBE, attachments=[PIXEL])

    assert data.isascii()
    assert data.endswith(b"\r\n")
    assert b"\0" not in data
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", data)
    lines = data.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines if not line.startswith(b"List-"))
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S*\?=", data))


@no_deadline
@given(text=bodies, html=bodies)
def test_message_equals_that_of_the_standard_library(text, html):
    theirs = EmailMessage(policy=email.policy.SMTP.clone(cte_type="7bit"))
    theirs["Subject"] = "Hello"
    theirs.set_content(text, cte="base64")
    theirs.add_alternative(html, subtype="html", cte="base64")

    built, expected = parse(message_bytes(RenderedEmail("Hello", text, html, "uk"))), parse(theirs.as_bytes())

    assert [part.get_content_type() for part in built.walk()] == [part.get_content_type() for part in expected.walk()]
    for form in ("plain", "html"):
        # It ends a text that has no last newline.
        assert newlines(body(built, form)).rstrip("\n") == newlines(body(expected, form)).rstrip("\n")


@pytest.mark.parametrize("locale", ["uk", "en", "ru"])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_sample_survives_parsing(renderer, sample, locale):
    rendered = renderer.render(sample, locale)

    message = parse(message_bytes(rendered))

    assert message["Subject"] == rendered.subject
    assert newlines(body(message, "plain")) == rendered.text
    assert newlines(body(message, "html")) == rendered.html
    assert message["Content-Language"] == locale


def test_headers():
    message = parse(message_bytes(unsubscribe_url=UNSUBSCRIBE))

    assert message.keys() == [
        "From",
        "To",
        "Subject",
        "Date",
        "Message-ID",
        "MIME-Version",
        "Auto-Submitted",
        "Content-Language",
        "List-Unsubscribe",
        "List-Unsubscribe-Post",
        "Content-Type",
    ]
    assert message["From"].addresses[0].display_name == "Автобазар"
    assert message["From"].addresses[0].addr_spec == "no-reply@cars.example"
    assert message["To"] == "reader@mail.example"
    assert message["Date"].datetime == AT
    assert message["Message-ID"] == ID
    assert message["Auto-Submitted"] == "auto-generated"


def test_text_comes_before_html():
    assert [part.get_content_type() for part in parse(message_bytes()).iter_parts()] == ["text/plain", "text/html"]


def test_images_are_related_to_the_html():
    message = parse(message_bytes(attachments=[PIXEL]))

    text, related = message.iter_parts()
    html, image = related.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert related.get_content_type() == "multipart/related"
    assert related.get_param("type") == "text/html"
    assert html.get_content_type() == "text/html"
    assert image["Content-ID"] == "<chart-1>"
    assert image.get_content_disposition() == "inline"
    assert image.get_filename() == "chart.png"
    assert image.get_content() == PIXEL.data
    assert body(message, "html") == HELLO.html.replace("\n", "\r\n")


@pytest.mark.parametrize("length", [60, 300, 900])
def test_one_click_headers_are_not_folded(length):
    url = "https://cars.example/u/".ljust(length, "a")

    data = message_bytes(unsubscribe_url=url)

    assert f"\r\nList-Unsubscribe: <{url}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode() in data


def test_no_unsubscribe_headers_without_a_url():
    assert b"List-" not in message_bytes()


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nBcc: x@y.example", "\0", "\x1b[0m", "\x7f", "\x85"])
@pytest.mark.parametrize("place", ["subject", "sender", "name", "to", "message_id", "unsubscribe_url"])
def test_header_injection_is_refused(place, bad):
    assert CONTROL.search(bad)
    changes = {
        "sender": {"sender": f"no-reply@cars.example{bad}"},
        "name": {"sender": f"Cars{bad} <no-reply@cars.example>"},
        "to": {"to": f"reader@mail.example{bad}"},
        "message_id": {"message_id": f"<1@cars.example{bad}>"},
        "unsubscribe_url": {"unsubscribe_url": f"https://cars.example/{bad}"},
    }
    rendered = RenderedEmail(f"Hello{bad}", "", "", "en") if place == "subject" else HELLO

    with pytest.raises(ValueError, match=r"invalid|control character"):
        message_bytes(rendered, **changes.get(place, {}))


@pytest.mark.parametrize(
    "to",
    [
        "",
        "reader",
        "@mail.example",
        "reader@",
        "a@b@mail.example",
        "a b@mail.example",
        "a@mail example",
        "a@-mail.example",
        "a@mail..example",
        ".a@mail.example",
        "a..b@mail.example",
        "a@mail.example, b@mail.example",
        "Reader <reader@mail.example>",
        "a@[127.0.0.1]",
        "x" * 65 + "@mail.example",
        "a@" + "x" * 64 + ".example",
        "a@" + "x." * 130 + "example",
        "a@міс то.укр",
        "a@mail.example\u2028",
    ],
)
def test_invalid_address_is_refused(to):
    with pytest.raises(ValueError, match="invalid"):
        message_bytes(to=to)


def test_internationalized_domain_is_written_in_punycode():
    assert parse(message_bytes(to="olena@пошта.укр"))["To"] == "olena@xn--80a1acn3a.xn--j1amh"


def test_address_that_needs_smtputf8_is_refused():
    with pytest.raises(ValueError, match="SMTPUTF8"):
        message_bytes(to="олена@mail.example")


@pytest.mark.parametrize(
    ("sender", "name"),
    [
        ("no-reply@cars.example", ""),
        ("<no-reply@cars.example>", ""),
        ("Cars <no-reply@cars.example>", "Cars"),
        ("Cars, Ltd. <no-reply@cars.example>", "Cars, Ltd."),
        ('"Cars \\"R\\" us" <no-reply@cars.example>', 'Cars "R" us'),
        ("Автобазар «Схід» <no-reply@cars.example>", "Автобазар «Схід»"),
        ("=?utf-8?q?x?= <no-reply@cars.example>", "=?utf-8?q?x?="),
    ],
)
def test_sender_name_is_kept(sender, name):
    parsed = parse(message_bytes(sender=sender))["From"].addresses[0]

    assert parsed.display_name == name
    assert parsed.addr_spec == "no-reply@cars.example"


def test_long_sender_name_is_kept():
    name = "Дуже довга назва сайту оголошень про машини в Україні й поза нею"

    line = BytesParser(policy=email.policy.compat32).parsebytes(
        message_bytes(sender=f"{name} <no-reply@cars.example>")
    )["From"]

    # Python 3.11's newer parser puts a space between encoded-words of a name, where RFC 2047 has none.
    assert str(make_header(decode_header(line))) == f"{name} <no-reply@cars.example>"


@pytest.mark.parametrize("sender", ["", "Cars", "Cars <>", "Cars <a@b> <c@d>", "Cars <a@b", 'Ca"rs <a@cars.example>'])
def test_sender_without_an_address_is_refused(sender):
    with pytest.raises(ValueError, match="invalid"):
        message_bytes(sender=sender)


def test_long_address_gets_its_own_line():
    to = "x" * 60 + "@" + "mail." * 8 + "example"

    data = message_bytes(to=to)

    assert f"\r\nTo:\r\n {to}\r\n".encode() in data
    assert parse(data)["To"] == to


@pytest.mark.parametrize(
    "unsubscribe_url", ["", "http://cars.example/u", "mailto:u@cars.example", "https://cars.example/ї"]
)
def test_unsubscribe_url_must_be_https(unsubscribe_url):
    with pytest.raises(ValueError, match="https://"):
        message_bytes(unsubscribe_url=unsubscribe_url)


@pytest.mark.parametrize(
    "message_id", ["", "4711@cars.example", "<4711>", "<a b@cars.example>", "<a@b@c>", "<" + "a" * 998 + "@b>"]
)
def test_invalid_message_id_is_refused(message_id):
    with pytest.raises(ValueError, match="Message-ID"):
        message_bytes(message_id=message_id)


def test_date_without_a_timezone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        message_bytes(date=AT.replace(tzinfo=None))


def test_date_keeps_its_timezone():
    assert b"\r\nDate: Fri, 20 Nov 2026 14:05:00 +0200\r\n" in message_bytes(
        date=AT.astimezone(timezone(timedelta(hours=2)))
    )


def test_lone_surrogate_is_refused():
    with pytest.raises(ValueError, match="surrogates"):
        message_bytes(RenderedEmail("Hello \ud83d", "", "", "en"))


@pytest.mark.parametrize(
    "changes",
    [
        {"content_id": "a>b"},
        {"content_id": ""},
        {"file_name": 'x".png'},
        {"file_name": "../x.png"},
        {"media_type": "image/png\r\nX: y"},
        {"media_type": "image"},
    ],
)
def test_attachment_with_invalid_values_is_refused(changes):
    sound = {"content_id": "chart", "file_name": "chart.png", "media_type": "image/png", "data": b""}

    with pytest.raises(ValueError, match="attachment"):
        Attachment(**{**sound, **changes})


def test_message_is_deterministic_and_boundaries_differ():
    assert message_bytes() == message_bytes()
    boundaries = {parse(message_bytes(message_id=one)).get_boundary() for one in (ID, "<4712@cars.example>")}
    assert len(boundaries) == 2


def test_message_id_is_stable_and_unique_per_key():
    keys = ["ad.approved/1/olena/email", "ad.approved/2/olena/email", "ad.approved/1/petro/email"]

    ids = [message_id(key, "cars.example") for key in keys]

    assert ids == [message_id(key, "cars.example") for key in keys]
    assert len(set(ids)) == 3
    assert re.fullmatch(r"<[0-9a-f]{32}@cars\.example>", ids[0])
    assert message_id("x", "пошта.укр").endswith("@xn--80a1acn3a.xn--j1amh>")


def test_long_message_id_is_not_folded():
    long_id = message_id("x", "mail." * 8 + "cars.example")

    data = message_bytes(message_id=long_id)

    assert f"\r\nMessage-ID: {long_id}\r\n".encode() in data
    assert parse(data)["Message-ID"] == long_id


def test_message_id_with_an_invalid_domain_is_refused():
    with pytest.raises(ValueError, match="invalid"):
        message_id("x", "cars example")
