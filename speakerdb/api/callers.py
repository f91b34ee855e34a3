"""Who asks: a token's holder; or, while there is no token, whoever sits at this machine.

A web page that the user of this machine looks at is not the user: without tokens the name that was asked for must be a
loopback name too (a page can let its own name lead to 127.0.0.1), and no page of another origin is answered.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Protocol
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from speakerdb.access import is_loopback
from speakerdb.api.problems import Refusal
from speakerdb.reports.access import Role, TokenView

logger = logging.getLogger("speakerdb.api")

_FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Tokens(Protocol):
    """What is to be known of tokens: `Access`, or what it said a moment ago."""

    def check(self, secret: str) -> TokenView | None:
        """The token of a secret, if it is valid."""
        ...

    def any_tokens(self) -> bool:
        """Whether a token was ever made."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, from where, and what they may. `who` is None for the user of this machine, whom the settings name."""

    who: str | None
    role: Role
    address: str
    token_id: str | None = None

    @property
    def source(self) -> str:
        """From where, as it stands in the events."""
        return f"api {self.address}"


def authenticate(access: Tokens, connection: HTTPConnection, proxies: Sequence[str], origins: Sequence[str]) -> Caller:
    """Who asks. `Refusal` for a wrong token, for none where one is needed, and for web pages of elsewhere.

    It reads SQL.
    """
    address = client_address(connection, proxies)
    _check_origin(connection, origins)
    given = connection.headers.getlist("authorization")
    if given:
        scheme, _, secret = given[0].partition(" ")
        token = access.check(secret.strip()) if scheme.lower() == "bearer" and len(given) == 1 else None
        if token is None:
            logger.warning("token-refused client=%s", address)
            raise Refusal("unauthenticated")
        return Caller(token.name, token.role, address, token.id)
    if access.any_tokens():
        raise Refusal("unauthenticated", "A token is needed.")
    peer = connection.client.host if connection.client is not None else ""
    proxied = any(name in connection.headers for name in _FORWARDED)
    if proxied or not (is_loopback(peer) and is_loopback(address) and is_loopback(_host(connection))):
        raise Refusal("loopback-only")
    return Caller(None, Role.ADMIN, address)


def require(caller: Caller, role: Role) -> None:
    """`Refusal` for a role that is too weak."""
    if not caller.role.allows(role):
        raise Refusal("forbidden", f"This needs the role {role.value}.", role=role.value, yours=caller.role.value)


def client_address(connection: HTTPConnection, proxies: Sequence[str]) -> str:
    """The address that asks: the peer's, or, where that is a trusted proxy, the last that no trusted proxy has."""
    peer = connection.client.host if connection.client is not None else "unknown"
    if not proxies or not _trusted(peer, proxies):
        return peer
    hops = [hop.strip() for line in connection.headers.getlist("x-forwarded-for") for hop in line.split(",")]
    for hop in reversed(hops):
        if _address(hop) is None:
            break
        peer = hop
        if not _trusted(hop, proxies):
            break
    return peer


def _check_origin(connection: HTTPConnection, allowed: Sequence[str]) -> None:
    origin = connection.headers.get("origin")
    if origin is not None:
        own = _place(origin)
        if origin not in allowed and (not own or own != connection.headers.get("host", "").lower()):
            raise Refusal("foreign-origin")
    elif connection.headers.get("sec-fetch-site") == "cross-site":
        raise Refusal("foreign-origin")


def _place(origin: str) -> str:
    """The host and port of an origin; empty for `null`, and for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _host(connection: HTTPConnection) -> str:
    """The name that was asked for, without its port."""
    given = connection.headers.get("host", "")
    if given.startswith("["):
        return given.partition("]")[0].removeprefix("[")
    return given.rpartition(":")[0] if ":" in given else given


def _trusted(address: str, proxies: Sequence[str]) -> bool:
    found = _address(address)
    return found is not None and any(found in ip_network(each, strict=False) for each in proxies)


def _address(text: str) -> object:
    try:
        return ip_address(text)
    except ValueError:
        return None
