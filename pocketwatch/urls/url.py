"""The parts of a URL. Nothing of a password is ever quoted in an error, however wrong the URL is."""

import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote

BETWEEN_URLS = re.compile(r",(?=[a-z+]+://)")  # a URL may contain commas of its own
SECRET_PARAMETER = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
NOT_IN_HOST = re.compile(r"""[\s,:;"'<>\\^`{|}\[\]@/?#%]""")
MAX_PORT = 65535
ENCODE = "write / ? # and @ in a user or password as %2F %3F %23 and %40"
TLS = frozenset({"amqps", "rediss"})  # the schemes whose parameters about TLS have an effect


@dataclass(frozen=True)
class Url:
    """A URL, percent-decoded. `path` is without its first slash; `parameters` are those of the query."""

    scheme: str
    hosts: tuple[tuple[str, int | None], ...]
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    @property
    def host(self) -> str:
        return self.hosts[0][0]

    @property
    def port(self) -> int | None:
        return self.hosts[0][1]

    def check_parameters(self, known: Collection[str]) -> None:
        """Refuse unknown parameters.

        Raises:
            ValueError: naming the first of them, and those that are known.
        """
        secret_before = False
        for name in self.parameters:
            if name not in known:
                # What follows a secret may be the rest of it, if it contains an unencoded &.
                shown = f"parameter {name}" if name.isidentifier() and not secret_before else "a parameter"
                raise ValueError(f"{shown} is unknown; known: {', '.join(known) or 'none'}")
            secret_before |= SECRET_PARAMETER.search(name) is not None

    def check_login(self) -> None:
        """Refuse half a login.

        Raises:
            ValueError: for a user without a password, or a password without a user.
        """
        if bool(self.user) != bool(self.password):
            raise ValueError("incomplete login; give user and password, or neither")


def parse(text: str, *schemes: str, several_hosts: bool = False, without_host: bool = False, web: bool = False) -> Url:
    """Parse a URL.

    Args:
        text: `scheme://user:password@host:port/path?name=value`.
        schemes: those that are accepted.
        several_hosts: accept a comma-separated list of hosts.
        without_host: accept a URL that names none.
        web: accept any query and a fragment, which belong to the site; they are not parsed.

    Raises:
        ValueError: saying what is wrong, without quoting anything that could be part of a password.
    """
    scheme, separator, rest = text.partition("://")
    accepted = " or ".join(f"{each}://" for each in schemes)
    if not separator or scheme not in schemes:
        raise ValueError(f"must be a URL that starts with {accepted} and names a host")
    if not text.isprintable() or " " in text:
        raise ValueError("must not contain spaces, line breaks or control characters; write a space as %20")
    authority, path, query, fragment = _divide(rest)
    tail = path + query + fragment
    if (fragment and not web) or ("@" in tail and (":" in authority or "@" in authority)):
        raise ValueError(f"/ ? # or @ at an unexpected place; {ENCODE}")
    login, _, hosts = authority.rpartition("@")
    user, colon, password = login.partition(":")
    if not hosts and not without_host:
        raise ValueError(f"must be a URL that starts with {accepted} and names a host")
    listed = (hosts.split(",") if several_hosts else [hosts]) if hosts else []
    return Url(
        scheme=scheme,
        hosts=tuple(map(_host, listed)),
        path=_decode(path.removeprefix("/"), "the path"),
        user=_decode(user, "the user") if user else None,
        password=_decode(password, "the password") if colon else None,
        parameters=MappingProxyType({} if web else _parameters(query)),
    )


def parse_list(text: str, *schemes: str) -> list[Url]:
    """Parse a comma-separated list of URLs.

    Raises:
        ValueError: as `parse`, for the first URL that is wrong.
    """
    if text.endswith(","):
        raise ValueError("must not end in a comma")
    return [parse(url, *schemes) for url in split(text)]


def split(urls: str) -> list[str]:
    return BETWEEN_URLS.split(urls)


def without_password(urls: str) -> str:
    """Mask the passwords of a URL, or a list of URLs, for logs and errors; works for malformed ones too."""
    each = split(urls)
    if len({(url.partition("://")[0], "@" in url) for url in each}) > 1:
        each = [urls]  # perhaps no list, but a password that contains a comma
    return ",".join(map(_mask, each))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _divide(rest: str) -> tuple[str, str, str, str]:
    """Divide what follows the scheme into authority, path, query and fragment; the last three keep their marks."""
    rest, hash_mark, fragment = rest.partition("#")
    rest, question_mark, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    return authority, slash + path, question_mark + query, hash_mark + fragment


def _host(text: str) -> tuple[str, int | None]:
    """Parse `host:port` or `[address]:port`; a host that begins with an encoded slash is the folder of a socket."""
    bracketed = re.fullmatch(r"\[(.*)\](?::(.*))?", text)
    host, port = (bracketed[1], bracketed[2]) if bracketed else (text.partition(":")[0], text.partition(":")[2])
    if bracketed or text.count(":") > 1:
        _check_ipv6(host if bracketed else "")
    else:
        host = _decode(host, "the host")
        if not host.startswith("/"):
            _check_host(host)
    try:
        return host, parse_port(port) if port else None
    except ValueError as error:
        raise ValueError(f"the port {error}, or left out; if it is a password, {ENCODE}") from None


def _check_ipv6(address: str) -> None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise ValueError("invalid host or port; write an IPv6 address in brackets, such as [::1]:5432") from None


def _check_host(host: str) -> None:
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError("the host is not a valid name or address") from None
    if not host or NOT_IN_HOST.search(host):
        raise ValueError("the host is not a valid name or address")


def parse_port(text: str) -> int:
    """Parse a port.

    Raises:
        ValueError: for anything but a number from 1 to 65535; the text is not quoted, as it may be a password.
    """
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:6]) <= MAX_PORT):
        raise ValueError(f"must be a number from 1 to {MAX_PORT}")
    return int(text)


def _parameters(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in query.removeprefix("?").split("&") if query not in {"", "?"} else ():
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("a parameter has no value; write name=value, and & in a value as %26")
        name = _decode(name, "the name of a parameter")
        if name in found:
            raise ValueError(
                "a parameter is given twice" if SECRET_PARAMETER.search(name) else f"{name} is given twice"
            )
        found[name] = _decode(value, "the value of a parameter")
    return found


def _decode(text: str, what: str) -> str:
    try:
        decoded = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise ValueError(f"{what} is not percent-encoded UTF-8; write % as %25") from None
    if "\0" in decoded:
        raise ValueError(f"NUL in {what}; remove %00")
    return decoded


def _mask(url: str) -> str:
    before, at, after = url.rpartition("@")
    scheme, separator, login = before.partition("://")
    if at and separator and re.search("[/?#]", login):
        masked = f"{scheme}://***@{after}"  # the password may begin anywhere
    elif at:
        masked = re.sub(r":(?!//).*@", ":***@", url, flags=re.DOTALL)
    else:  # what looks like a port, but is no number, may be a password
        masked = re.sub(
            r"(^(?:[a-z+]+://)?(?:\[[^]]*\])?[^:/?#\[]*:)(?!//)(?!\d*(?:[,/?#]|$)).*", r"\1***", url, flags=re.DOTALL
        )
    secret = rf"([?&][^=&]*(?:{SECRET_PARAMETER.pattern})[^=&]*=).*"
    return re.sub(secret, r"\1***", masked, flags=re.DOTALL | re.IGNORECASE)
