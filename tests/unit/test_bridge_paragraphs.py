"""The words of a letter that somebody else has written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.bridge.html_text import (
    LONGEST,
    MOST,
    of_html,
    of_text,
)

LETTER = """<!DOCTYPE html>
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


def test_a_reader_sees_every_word_of_the_html_and_every_address():
    assert of_html(LETTER) == [
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
        ("<!-- a comment --> <p> </p><br><ul><li></li></ul>", []),
        ("", []),
    ],
)
def test_odd_html_keeps_its_words(html: str, paragraphs: list[str]):
    assert of_html(html) == paragraphs


@pytest.mark.timeout(20)  # what takes time in proportion takes a second, the square of it half an hour
def test_links_that_nobody_closes_take_time_in_proportion():
    paragraphs = of_html("<a href='https://a.example'><p>word" * 100_000)

    assert sum(paragraph.count("word") for paragraph in paragraphs) == 100_000


def test_paragraphs_of_a_text_stand_between_empty_lines():
    text = "\r\nOne\r\ntwo\r\n \r\n\r\nThree\n"

    assert of_text(text) == ["One\ntwo", "Three"]


def test_a_long_paragraph_is_cut_between_words():
    first, second = of_text("word " * (LONGEST // 5) + "and more")

    assert first == "word " * (LONGEST // 5 - 1) + "word"
    assert second == "and more"


def test_more_paragraphs_than_a_letter_holds_stand_together():
    items = [f"• {number}" for number in range(MOST + 1)]

    assert of_html("".join(f"<li>{number}</li>" for number in range(MOST + 1))) == ["\n\n".join(items)]
    assert of_text("\n\n".join(items)) == ["\n\n".join(items)]
    assert of_text("\n\n".join(items[:MOST])) == items[:MOST]


@given(st.text(max_size=300))
def test_no_character_of_a_text_is_lost_but_spaces(text: str):
    assert "".join("".join(of_text(text)).split()) == "".join(text.split())


@given(st.text(alphabet="ab <>/&;\"'=p!-", max_size=200))
def test_any_html_can_be_read(html: str):
    assert all(paragraph.strip() for paragraph in of_html(html))
