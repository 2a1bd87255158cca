"""Plain text and HTML that become the paragraphs of an email."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.bridge.html_text import MAX_LENGTH, MAX_PARAGRAPHS, html_paragraphs, text_paragraphs

EMAIL = """<!DOCTYPE html>
<html><head><title>Hidden</title><style>p { color: red }</style></head>
<body>
  <h1>Оголошення   #7</h1>
  <p>Потрібна <b>перевірка</b>:<br>10 &lt; 20&nbsp;$</p>
  <ul><li>фото</li><li>опис</li></ul>
  <table><tr><td>Причина</td><td>спам</td></tr></table>
  <script>alert("no")</script>
  <p><a href="https://shop.example/ads/7">Відкрити</a> чи <a href="mailto:help@shop.example">написати</a>,
     <a href="https://shop.example">https://shop.example</a> <a href="javascript:x()">нічого</a></p>
</body></html>"""


def test_visible_text_and_addresses_of_html_are_kept():
    assert html_paragraphs(EMAIL) == [
        "Оголошення #7",
        "Потрібна перевірка:\n10 < 20 $",
        "• фото",
        "• опис",
        "Причина спам",
        "Відкрити (https://shop.example/ads/7) чи написати (help@shop.example), https://shop.example нічого",
    ]


@pytest.mark.parametrize(
    ("html", "paragraphs"),
    [
        ("plain text", ["plain text"]),
        ("one<div>two<div>three</div></div>four", ["one", "two", "three", "four"]),
        ("<p>unclosed<p>another", ["unclosed", "another"]),
        ("<head><title>Hidden</title><body>shown", ["shown"]),
        ('<a href="https://a.example"><img src="x.png"></a>', ["https://a.example"]),
        ('<a href="https://a.example"><p>a</p><p>b</p></a>', ["a", "b", "https://a.example"]),
        (
            '<a href="https://a.example">a<a href="https://b.example">b</a>',
            ["a (https://a.example)b (https://b.example)"],
        ),
        ("<b>5 < 6 & 7</b>", ["5 < 6 & 7"]),
        ("a <![if mso]>b<![endif]-->c", ["a bc"]),
        ("<p title=it's>a<p title='1 > 0'>b", ["a", "b"]),
        ("<A HREF=https://a.example/?x=1&amp;y=2>a</A>", ["a (https://a.example/?x=1&y=2)"]),
        ("<a href='https://a.example'>never closed", ["never closed (https://a.example)"]),
        ("<script>if (a<b) '</p>'</SCRIPT >shown<style>p<", ["shown"]),
        ("<!-- a comment --> <p> </p><br><ul><li></li></ul>", []),
        ("", []),
    ],
)
def test_malformed_html_keeps_its_text(html: str, paragraphs: list[str]):
    assert html_paragraphs(html) == paragraphs


@pytest.mark.timeout(20)  # linear time is a second, quadratic time half an hour
def test_unclosed_links_take_linear_time():
    paragraphs = html_paragraphs("<a href='https://a.example'><p>word" * 100_000)

    assert sum(paragraph.count("word") for paragraph in paragraphs) == 100_000


@pytest.mark.parametrize("number", ["9" * 5_000, "0" * 100_000])
def test_endless_character_reference_is_no_character(number: str):
    assert html_paragraphs(f"<p>a&#{number};<a href='https://b.example/&#{number}'>c</a>") == [
        "a\ufffdc (https://b.example/\ufffd)"
    ]


HOSTILE = [
    "<a ",
    '<a href="',
    "<a =",
    "<!--",
    "<![",
    "<?",
    "</",
    "</p ",
    "<template></p>",
    "<script></script",
    "&",
    "<td>",
    "<a <",
    "<",
    "• ",
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_html_takes_linear_time(piece: str):
    html_paragraphs(piece * 100_000)


def test_text_is_split_at_empty_lines():
    text = "\r\nOne\r\ntwo\r\n \r\n\r\nThree\n"

    assert text_paragraphs(text) == ["One\ntwo", "Three"]


def test_long_paragraph_is_cut_between_words():
    first, second = text_paragraphs("word " * (MAX_LENGTH // 5) + "and more")

    assert first == "word " * (MAX_LENGTH // 5 - 1) + "word"
    assert second == "and more"


def test_paragraphs_are_joined_when_there_are_too_many():
    items = [f"• {number}" for number in range(MAX_PARAGRAPHS + 1)]

    assert html_paragraphs("".join(f"<li>{number}</li>" for number in range(MAX_PARAGRAPHS + 1))) == [
        "\n\n".join(items)
    ]
    assert text_paragraphs("\n\n".join(items)) == ["\n\n".join(items)]
    assert text_paragraphs("\n\n".join(items[:MAX_PARAGRAPHS])) == items[:MAX_PARAGRAPHS]


@given(st.text(max_size=300))
def test_only_white_space_of_a_text_is_lost(text: str):
    assert "".join("".join(text_paragraphs(text)).split()) == "".join(text.split())


@given(st.text(alphabet="ab <>/&;\"'=p!-[?", max_size=200))
def test_any_html_is_converted(html: str):
    assert all(paragraph.strip() for paragraph in html_paragraphs(html))
