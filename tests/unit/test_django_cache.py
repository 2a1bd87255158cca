"""The cache of a Django site: its URL is understood or refused by name, and what is in it is never unpickled."""

import re
from pathlib import Path

import pytest

from pocketwatch import settings
from pocketwatch.errors import SettingsError
from pocketwatch.urls.django_cache import parse_django_cache

PROJECT = Path(__file__).parents[2]
PACKAGES = ("bench", "console", "consumers", "demo", "pocketwatch", "publishers", "schemas", "templates")
NAME = "POCKETWATCH_DJANGO_CACHE"
UNPICKLING = re.compile(r"Unpickler|pickle\.loads?\b|from pickle|import (?:dill|shelve|marshal)|cloudpickle")


@pytest.mark.parametrize(
    ("url", "address", "key"),
    [
        ("redis://:pw@cache:6380/1?prefix=autoria&version=2", "cache:6380/1", "autoria:2:quick_stats"),
        ("rediss://me:pw@[::1]/3?ssl_cert_reqs=none&prefix=shop%3Aweb", "[::1]:6379/3", "shop:web:1:quick_stats"),
        ("unix:///run/redis.sock?db=2&version=0", "/run/redis.sock database 2", ":0:quick_stats"),
        ("redis://cache", "cache:6379/0", ":1:quick_stats"),
    ],
)
def test_key_is_made_as_django_makes_it(url: str, address: str, key: str):
    cache = parse_django_cache(url)

    assert (cache.server.address, cache.key("quick_stats")) == (address, key)


def test_prefix_and_version_do_not_reach_the_client():
    options = parse_django_cache("rediss://cache/1?ssl_cert_reqs=none&prefix=autoria&version=1").server.options

    assert options == {
        "db": 1,
        "username": None,
        "password": None,
        "host": "cache",
        "port": 6379,
        "ssl": True,
        "ssl_cert_reqs": "none",
    }


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("?prefix=", "parameter prefix is empty; leave it out if the site sets no KEY_PREFIX"),
        ("?prefix", "a parameter has no value; write name=value"),
        (
            "?prefix=a%20b",
            "parameter prefix must be the KEY_PREFIX of the site's CACHES, without version and last colon",
        ),
        ("?prefix=autoria:", "parameter prefix must be the KEY_PREFIX of the site's CACHES, without version"),
        ("?prefix=autoria:1", "parameter prefix must be the KEY_PREFIX of the site's CACHES, without version"),
        ("?prefix=autoria:1:", "parameter prefix must be the KEY_PREFIX of the site's CACHES, without version"),
        ("?prefix=%07", "parameter prefix must be the KEY_PREFIX of the site's CACHES"),
        ("?version=one", "parameter version must be the VERSION of the site's CACHES, a whole number such as 1"),
        ("?version=-1", "parameter version must be the VERSION of the site's CACHES"),
        ("?version=", "parameter version must be the VERSION of the site's CACHES"),
        ("?version=1234567890", "parameter version must be the VERSION of the site's CACHES"),
        ("?prefix=a&prefix=b", "prefix is given twice"),
        ("?key_prefix=a", "parameter key_prefix is unknown; known: db, ssl_cert_reqs, "),
        ("?timeout=3", "ssl_check_hostname, prefix, version"),
        ("/one", "the database must be a number, such as redis://host/0"),
        ("?ssl_cert_reqs=none", "parameter ssl_cert_reqs has no effect without TLS; use rediss://"),
    ],
)
def test_what_would_not_be_the_site_s_cache_is_refused_by_name(tmp_path: Path, rest: str, words: str):
    with pytest.raises(SettingsError) as refused:
        settings.load({NAME: f"redis://:hush@cache{rest}"}, folder=tmp_path)

    assert str(refused.value).startswith(f'{NAME} is "redis://:***@cache')
    assert words in str(refused.value)
    assert "hush" not in str(refused.value)


def test_prefix_and_version_are_no_parameters_of_another_redis(tmp_path: Path):
    with pytest.raises(SettingsError, match=r"REDIS_URL is .*: parameter prefix is unknown; known: db, ssl_"):
        settings.load({"REDIS_URL": "redis://cache?prefix=autoria"}, folder=tmp_path)


def test_nothing_in_the_project_unpickles():
    found = [
        str(path.relative_to(PROJECT))
        for package in PACKAGES
        for path in (PROJECT / package).rglob("*.py")
        if UNPICKLING.search(path.read_text(encoding="utf-8"))
    ]

    assert found == []
