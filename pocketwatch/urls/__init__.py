"""URLs of servers: parsed in one place, understood or refused by name, and shown without their passwords."""

from pocketwatch.urls.url import Url, is_loopback, parse, parse_list, split, without_password

__all__ = ["Url", "is_loopback", "parse", "parse_list", "split", "without_password"]
