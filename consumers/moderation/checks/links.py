"""Whether the links of emails lead to pages of the site, for `pocketwatch doctor`."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import sqlalchemy as sa

from consumers.moderation.notices.notice import link_of
from pocketwatch import command
from pocketwatch.monitoring.finding import Finding
from pocketwatch.settings import Settings, Site
from pocketwatch.storage.tables.platform import ads
from pocketwatch.web import open_client

TIMEOUT = 5.0  # seconds for one page, redirects included
MAX_REDIRECTS = 5
NEWEST_AD = sa.select(ads.c.id).where(ads.c.status == "active").order_by(ads.c.id.desc()).limit(1)
NO_PAGE = {httpx.codes.NOT_FOUND, httpx.codes.GONE}
NO_HEAD = {httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.NOT_IMPLEMENTED}
# Of the marketplace whose tasks the bridge takes over.
PAGES = {
    "POCKETWATCH_AD_PATH": "/autoria/ads/view/{ad_id}",
    "POCKETWATCH_ADMIN_AD_PATH": "/autoria/ads/moderate/{ad_id}",
}


async def check_links(settings: Settings) -> AsyncIterator[Finding]:
    """Request the pages of the newest active ad; one that needs a login is there."""
    site = settings.site
    if site.url == Site().url:
        yield Finding("links", "ok", f"not checked; they lead to {site.url}, unless POCKETWATCH_SITE_URL is set")
        return
    async with command.database(settings, "doctor") as database, database.begin() as connection:
        ad_id = (await connection.execute(NEWEST_AD)).scalar()
    if ad_id is None:
        yield Finding("links", "ok", "not checked; no ad is active")
        return
    for name, path in (("POCKETWATCH_AD_PATH", site.ad_path), ("POCKETWATCH_ADMIN_AD_PATH", site.admin_ad_path)):
        yield await _page(name, path, link_of(site, path, ad_id))


async def _page(name: str, path: str, url: str) -> Finding:
    try:
        async with asyncio.timeout(TIMEOUT), open_client(url, timeout=TIMEOUT) as client:
            status, end = await _request(client, httpx.URL(url))
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Finding(name, "warning", f"not checked; {url}: {str(error) or type(error).__name__}")
    if status in NO_PAGE:
        remedy = f"links of emails lead nowhere; set it to the path of this page, on the platform {PAGES[name]}"
        return Finding(name, "warning", f'"{path}": {end} answers {status}; {remedy}')
    if status >= httpx.codes.INTERNAL_SERVER_ERROR:
        return Finding(name, "warning", f"not checked; {end} answers {status}")
    return Finding(name, "ok", f"{end} answers {status}")


async def _request(client: httpx.AsyncClient, url: httpx.URL) -> tuple[int, httpx.URL]:
    """Return the status of a page and where it is; a redirect to another host is not followed."""
    method = "HEAD"
    for _ in range(MAX_REDIRECTS):
        async with client.stream(method, url) as response:  # the body is not read
            if response.status_code in NO_HEAD and method == "HEAD":
                method = "GET"
            elif response.next_request is None or _origin(response.next_request.url) != _origin(url):
                return response.status_code, url
            else:
                url = response.next_request.url
    return response.status_code, url


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
