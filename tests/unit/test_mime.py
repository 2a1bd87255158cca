"""Letters as bytes: what the standard library reads in them is what went in."""

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
from consumers.mail.compose.rendering import Rendered
from consumers.mail.compose.samples import SAMPLES, SITE, UNSUBSCRIBE

calm = settings(deadline=None)  # a busy machine is no error
AT = datetime(2026, 11, 20, 12, 5, tzinfo=UTC)
ID = "<4711@cars.example>"
HELLO = Rendered("Hello", "Hello\n", "<p>Hello</p>\n", "en")
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


def letter(rendered: Rendered = HELLO, **changes: Any) -> bytes:
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


@calm
@given(subject=subjects, text=bodies, html=bodies)
@example(subject="x" * 69, text="", html="")
@example(subject="x" * 70, text="\n", html="\r")
@example(subject=" edge ", text=".\n.\n", html="a\rb\nc\r\nd")
@example(subject="=?utf-8?q?no?=", text="", html="")
def test_what_is_read_is_what_was_written(subject, text, html):
    message = parse(letter(Rendered(subject, text, html, "uk")))

    assert message["Subject"] == subject
    assert newlines(body(message, "plain")) == newlines(text)
    assert newlines(body(message, "html")) == newlines(html)


@calm
@given(subject=subjects, text=bodies)
def test_every_line_is_short_and_of_seven_bits_and_ends_with_crlf(subject, text):
    data = letter(Rendered(subject, text, text, "uk"), unsubscribe_url=UNSUBSCRIBE, attachments=[PIXEL])

    assert data.isascii()
    assert data.endswith(b"\r\n")
    assert b"\0" not in data
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", data)
    lines = data.split(b"\r\n")
    assert all(len(line) <= 78 for line in lines if not line.startswith(b"List-"))
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S*\?=", data))


@calm
@given(text=bodies, html=bodies)
def test_the_standard_librarys_own_letter_says_the_same(text, html):
    theirs = EmailMessage(policy=email.policy.SMTP.clone(cte_type="7bit"))
    theirs["Subject"] = "Hello"
    theirs.set_content(text, cte="base64")
    theirs.add_alternative(html, subtype="html", cte="base64")

    ours, other = parse(letter(Rendered("Hello", text, html, "uk"))), parse(theirs.as_bytes())

    assert [part.get_content_type() for part in ours.walk()] == [part.get_content_type() for part in other.walk()]
    for form in ("plain", "html"):
        # It ends a text that has no last newline.
        assert newlines(body(ours, form)).rstrip("\n") == newlines(body(other, form)).rstrip("\n")


@pytest.mark.parametrize("locale", ["uk", "en", "ru"])
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_every_letter_of_ours_arrives(letters, sample, locale):
    rendered = letters.render(sample, locale)

    message = parse(letter(rendered))

    assert message["Subject"] == rendered.subject
    assert newlines(body(message, "plain")) == rendered.text
    assert newlines(body(message, "html")) == rendered.html
    assert message["Content-Language"] == locale


def test_the_head_has_each_line_once_and_in_the_form_that_others_read():
    message = parse(letter(unsubscribe_url=UNSUBSCRIBE))

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


def test_text_comes_first_and_html_last():
    assert [part.get_content_type() for part in parse(letter()).iter_parts()] == ["text/plain", "text/html"]


def test_images_belong_to_the_html_that_shows_them():
    message = parse(letter(attachments=[PIXEL]))

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
def test_the_one_click_headers_stand_there_letter_for_letter(length):
    url = "https://cars.example/u/".ljust(length, "a")

    data = letter(unsubscribe_url=url)

    assert f"\r\nList-Unsubscribe: <{url}>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n".encode() in data


def test_mail_that_nobody_subscribed_to_has_no_such_headers():
    assert b"List-" not in letter()


@pytest.mark.parametrize("bad", ["\r", "\n", "\r\nBcc: x@y.example", "\0", "\x1b[0m", "\x7f", "\x85"])
@pytest.mark.parametrize("place", ["subject", "sender", "name", "to", "message_id", "unsubscribe_url"])
def test_nobody_adds_a_line_to_the_head(place, bad):
    assert CONTROL.search(bad)
    changes = {
        "sender": {"sender": f"no-reply@cars.example{bad}"},
        "name": {"sender": f"Cars{bad} <no-reply@cars.example>"},
        "to": {"to": f"reader@mail.example{bad}"},
        "message_id": {"message_id": f"<1@cars.example{bad}>"},
        "unsubscribe_url": {"unsubscribe_url": f"https://cars.example/{bad}"},
    }
    rendered = Rendered(f"Hello{bad}", "", "", "en") if place == "subject" else HELLO

    with pytest.raises(ValueError, match=r"must|no e-mail|no domain"):
        letter(rendered, **changes.get(place, {}))


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
def test_what_is_no_address_is_refused(to):
    with pytest.raises(ValueError, match=r"no e-mail address|no domain"):
        letter(to=to)


def test_a_domain_in_other_letters_is_written_in_ascii():
    assert parse(letter(to="olena@пошта.укр"))["To"] == "olena@xn--80a1acn3a.xn--j1amh"


def test_an_address_that_only_newer_servers_understand_is_refused_in_so_many_words():
    with pytest.raises(ValueError, match="SMTPUTF8"):
        letter(to="олена@mail.example")


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
def test_the_sender_keeps_his_name(sender, name):
    parsed = parse(letter(sender=sender))["From"].addresses[0]

    assert parsed.display_name == name
    assert parsed.addr_spec == "no-reply@cars.example"


def test_a_sender_with_a_long_name_keeps_all_of_it():
    name = "Дуже довга назва сайту оголошень про машини в Україні й поза нею"

    line = BytesParser(policy=email.policy.compat32).parsebytes(letter(sender=f"{name} <no-reply@cars.example>"))[
        "From"
    ]

    # Python 3.11's newer parser puts a space between encoded-words of a name, where RFC 2047 has none.
    assert str(make_header(decode_header(line))) == f"{name} <no-reply@cars.example>"


@pytest.mark.parametrize("sender", ["", "Cars", "Cars <>", "Cars <a@b> <c@d>", "Cars <a@b", 'Ca"rs <a@cars.example>'])
def test_a_sender_without_an_address_is_refused(sender):
    with pytest.raises(ValueError, match=r"no e-mail address|no domain"):
        letter(sender=sender)


def test_a_long_address_stands_on_a_line_of_its_own():
    to = "x" * 60 + "@" + "mail." * 8 + "example"

    data = letter(to=to)

    assert f"\r\nTo:\r\n {to}\r\n".encode() in data
    assert parse(data)["To"] == to


@pytest.mark.parametrize(
    "unsubscribe_url", ["", "http://cars.example/u", "mailto:u@cars.example", "https://cars.example/ї"]
)
def test_only_https_unsubscribes_with_one_click(unsubscribe_url):
    with pytest.raises(ValueError, match="https://"):
        letter(unsubscribe_url=unsubscribe_url)


@pytest.mark.parametrize(
    "message_id", ["", "4711@cars.example", "<4711>", "<a b@cars.example>", "<a@b@c>", "<" + "a" * 998 + "@b>"]
)
def test_a_message_id_has_its_form(message_id):
    with pytest.raises(ValueError, match="Message-ID"):
        letter(message_id=message_id)


def test_a_date_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        letter(date=AT.replace(tzinfo=None))


def test_a_date_keeps_its_zone():
    assert b"\r\nDate: Fri, 20 Nov 2026 14:05:00 +0200\r\n" in letter(date=AT.astimezone(timezone(timedelta(hours=2))))


def test_a_lone_half_of_a_character_is_refused():
    with pytest.raises(ValueError, match="surrogates"):
        letter(Rendered("Hello \ud83d", "", "", "en"))


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
def test_an_attachment_cannot_break_the_head_of_its_part(changes):
    sound = {"content_id": "chart", "file_name": "chart.png", "media_type": "image/png", "data": b""}

    with pytest.raises(ValueError, match="an attachment has"):
        Attachment(**{**sound, **changes})


def test_the_same_letter_is_the_same_bytes_and_another_has_other_boundaries():
    assert letter() == letter()
    boundaries = {parse(letter(message_id=one)).get_boundary() for one in (ID, "<4712@cars.example>")}
    assert len(boundaries) == 2


def test_a_message_id_is_stable_and_differs_by_event_recipient_and_channel():
    keys = ["ad.approved/1/olena/email", "ad.approved/2/olena/email", "ad.approved/1/petro/email"]

    ids = [message_id(key, "cars.example") for key in keys]

    assert ids == [message_id(key, "cars.example") for key in keys]
    assert len(set(ids)) == 3
    assert re.fullmatch(r"<[0-9a-f]{32}@cars\.example>", ids[0])
    assert message_id("x", "пошта.укр").endswith("@xn--80a1acn3a.xn--j1amh>")


def test_a_message_id_of_a_long_domain_is_not_folded_because_some_readers_would_see_another():
    long_id = message_id("x", "mail." * 8 + "cars.example")

    data = letter(message_id=long_id)

    assert f"\r\nMessage-ID: {long_id}\r\n".encode() in data
    assert parse(data)["Message-ID"] == long_id


def test_the_id_of_a_letter_names_no_domain_that_is_none():
    with pytest.raises(ValueError, match="no domain"):
        message_id("x", "cars example")
