"""Servers that somebody else runs: their URLs are given to us, and they are never altered."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pocketwatch.stack.state import PROTECTED, Identity
from pocketwatch.stack.urls import MANAGEMENT, VARIABLES, environment


@dataclass(frozen=True)
class Given:
    """What is set, by the names of the settings."""

    values: Mapping[str, str] = field(repr=False)

    def by_server(self, identity: Identity | None, ports: Mapping[str, int]) -> dict[str, str]:
        """URLs by server, without those that lead to this stack's own servers."""
        named = {server: self.values.get(variable) for server, variable in VARIABLES.items()}
        return {
            server: url
            for server, url in named.items()
            if url and not (identity and _owns(identity, ports, server, url))
        }

    def environment(self, servers: Mapping[str, str]) -> dict[str, str]:
        """The settings of these servers, as they were given."""
        urls = {VARIABLES[server]: url for server, url in servers.items()}
        if "rabbitmq" in servers and self.values.get(MANAGEMENT):
            urls[MANAGEMENT] = self.values[MANAGEMENT]
        return urls


def _owns(identity: Identity, ports: Mapping[str, int], server: str, url: str) -> bool:
    """By the password; what has none is known by its port."""
    if server in PROTECTED:
        return identity.owns(server, url)
    return environment([server], ports=ports, passwords={})[VARIABLES[server]] == url
