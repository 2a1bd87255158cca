"""The doctor requests the pages to which the links of emails lead, on a site of the test's own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from demo import ads
from tests.fixtures.suite import Program

PLATFORM = {
    "POCKETWATCH_AD_PATH": "/autoria/ads/view/{ad_id}",
    "POCKETWATCH_ADMIN_AD_PATH": "/autoria/ads/moderate/{ad_id}",
}


@dataclass
class Pages:
    """A site with these pages: what each answers, and where it redirects to."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(pages: Pages) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            pages.requests.append((self.command, self.path))
            status, location = pages.answers.get(self.path, (404, ""))
            if self.command == "HEAD" and status == 200 and location == "GET only":
                status = 405
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_HEAD = answer  # noqa: N815  names of the library

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    pages.url = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    with serving(made):
        yield made


@pytest.fixture
def ad_id(database_url: str) -> int:
    """The newest active ad; newer ones are not active."""
    ads.prepare(database_url)
    newest = ads.add(database_url, "active", created=1, updated=1, count=3)[-1]
    ads.add(database_url, "sold", created=1, updated=1)
    return newest


def findings(pocketwatch: Program, **changes: str) -> dict[str, tuple[str, str]]:
    done = pocketwatch("doctor", "--json", **changes)
    return {each["subject"]: (each["result"], each["detail"]) for each in json.loads(done.stdout)}


def test_missing_pages_are_warnings_that_name_the_setting(pocketwatch: Program, pages: Pages, ad_id: int):
    """The default paths, on a site as the platform's front end: it redirects a path with a slash at its end first."""
    pages.answers[f"/admin/ads/carad/{ad_id}/change/"] = (308, f"/admin/ads/carad/{ad_id}/change")

    found = findings(pocketwatch, POCKETWATCH_SITE_URL=pages.url)

    assert found["POCKETWATCH_AD_PATH"] == (
        "warning",
        (
            f'"/ads/{{ad_id}}": {pages.url}/ads/{ad_id} answers 404; links of emails lead nowhere; '
            "set it to the path of this page, on the platform /autoria/ads/view/{ad_id}"
        ),
    )
    assert found["POCKETWATCH_ADMIN_AD_PATH"] == (
        "warning",
        (
            f'"/admin/ads/carad/{{ad_id}}/change/": {pages.url}/admin/ads/carad/{ad_id}/change answers 404; links of '
            "emails lead nowhere; set it to the path of this page, on the platform /autoria/ads/moderate/{ad_id}"
        ),
    )


def test_paths_of_the_platform_lead_to_pages(pocketwatch: Program, pages: Pages, ad_id: int):
    pages.answers[f"/autoria/ads/view/{ad_id}"] = (200, "GET only")
    pages.answers[f"/autoria/ads/moderate/{ad_id}"] = (307, "/login?next=x")
    pages.answers["/login?next=x"] = (200, "")

    found = findings(pocketwatch, POCKETWATCH_SITE_URL=pages.url, **PLATFORM)

    assert found["POCKETWATCH_AD_PATH"] == ("ok", f"{pages.url}/autoria/ads/view/{ad_id} answers 200")
    assert found["POCKETWATCH_ADMIN_AD_PATH"] == ("ok", f"{pages.url}/login?next=x answers 200")
    assert ("GET", f"/autoria/ads/view/{ad_id}") in pages.requests


@pytest.mark.parametrize("status", [401, 403])
def test_page_that_needs_a_login_is_there(pocketwatch: Program, pages: Pages, ad_id: int, status: int):
    pages.answers[f"/autoria/ads/moderate/{ad_id}"] = (status, "")

    found = findings(pocketwatch, POCKETWATCH_SITE_URL=pages.url, **PLATFORM)

    assert found["POCKETWATCH_ADMIN_AD_PATH"][0] == "ok"
    assert found["POCKETWATCH_AD_PATH"][0] == "warning"


def test_redirect_to_another_host_is_not_followed(pocketwatch: Program, pages: Pages, ad_id: int):
    other = Pages()
    with serving(other):
        pages.answers[f"/autoria/ads/moderate/{ad_id}"] = (302, f"{other.url}/login")
        pages.answers[f"/autoria/ads/view/{ad_id}"] = (302, f"/autoria/ads/view/{ad_id}")

        found = findings(pocketwatch, POCKETWATCH_SITE_URL=pages.url, **PLATFORM)

    assert found["POCKETWATCH_ADMIN_AD_PATH"] == ("ok", f"{pages.url}/autoria/ads/moderate/{ad_id} answers 302")
    assert found["POCKETWATCH_AD_PATH"][0] == "ok"
    assert other.requests == []


def test_unreachable_site_is_not_checked(pocketwatch: Program, ad_id: int):
    found = findings(pocketwatch, POCKETWATCH_SITE_URL="http://127.0.0.1:1", **PLATFORM)

    assert found["POCKETWATCH_AD_PATH"][0] == "warning"
    assert found["POCKETWATCH_AD_PATH"][1].startswith(f"not checked; http://127.0.0.1:1/autoria/ads/view/{ad_id}: ")


def test_site_without_address_or_ads_is_not_checked(pocketwatch: Program, pages: Pages, database_url: str):
    without_address = findings(pocketwatch)
    without_ads = findings(pocketwatch, POCKETWATCH_SITE_URL=pages.url)

    assert without_address["links"][0] == without_ads["links"][0] == "ok"
    assert without_ads["links"][1] == "not checked; no ad is active"
    assert pages.requests == []
