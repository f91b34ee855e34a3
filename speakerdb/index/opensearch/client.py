"""The connection to an OpenSearch cluster: requests, what is tried again and what never is, and its errors as ours.

`Client.ask` is what to use. Names of indices and aliases are given to it as they are *on the wire*: `Client.wire` puts the
prefix of this installation before a name of ours, `Client.ours` takes it away.
"""

from __future__ import annotations

import base64
import logging
import random
import re
import ssl
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson
import urllib3
from opensearchpy import OpenSearch
from opensearchpy.connection import Urllib3HttpConnection
from opensearchpy.exceptions import ConnectionError as NoConnection
from opensearchpy.exceptions import ConnectionTimeout, OpenSearchException, SerializationError, SSLError, TransportError
from opensearchpy.serializer import Serializer

from speakerdb.errors import (
    ConfigurationError,
    IndexMissing,
    IndexUnavailable,
    InvalidInput,
)
from speakerdb.index.opensearch.refusals import Refusal, refusal_in, refusal_of
from speakerdb.settings import OpenSearchSettings

OUR_NAMES = "speakers"
"""What our names begin with where no prefix is set: the cluster may hold other people's indices."""
OLDEST = 3
"""The major version of OpenSearch that all of this was tried with."""
JSON = "application/json"
LINES = "application/x-ndjson"
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0
_CONNECTIONS = 16
_DEAD_SECONDS = 5.0
_FORBIDDEN = re.compile(r'[\\/*?"<>|\s,#:\x00-\x1f]')
_LARGEST_NAME = 255
_log = logging.getLogger(__name__)
# The driver warns of each failed try, with what was sent at DEBUG. What fails in the end is raised, and said once.
for _noisy in ("opensearch", "opensearchpy"):
    if logging.getLogger(_noisy).level == logging.NOTSET:
        logging.getLogger(_noisy).setLevel(logging.CRITICAL)


_TLS_HINT = (
    "Give the certificate of the authority that signed the hosts' certificates in opensearch.ca_file, and name the hosts as"
    " their certificates do. opensearch.verify_certificates = false only where nobody else can reach the cluster."
)


_PLAIN_HINT = (
    "Where the cluster has no TLS, let opensearch.hosts begin with http://; else see that the port is the cluster's."
)


class _Orjson(Serializer):
    """Bodies to and from bytes; NumPy arrays too. What is bytes already goes as it is."""

    mimetype = JSON

    def loads(self, s: Any) -> Any:
        try:
            return orjson.loads(s)
        except orjson.JSONDecodeError as error:
            raise SerializationError(s[:80], error) from error

    def dumps(self, data: Any) -> Any:
        return data if isinstance(data, bytes) else orjson.dumps(data, option=orjson.OPT_SERIALIZE_NUMPY)


class _Connection(Urllib3HttpConnection):
    """The driver's, without two habits: deprecations as Python warnings, and errors that assume a certain JSON."""

    def _raise_warnings(self, warning_headers: Any) -> None:
        for text in warning_headers or ():
            _log.info("opensearch-deprecation", extra={"text": text})

    def _raise_error(self, status_code: int, raw_data: Any, content_type: str | None = None) -> None:  # noqa: ARG002
        try:
            info = orjson.loads(raw_data)
        except orjson.JSONDecodeError:
            info = None
        raise TransportError(status_code, "", info)


class Client:
    """A connection to the cluster that the settings name. Threads may share it."""

    def __init__(self, settings: OpenSearchSettings) -> None:
        self.settings = settings
        self.prefix = settings.prefix
        self.pattern = f"{self.prefix or OUR_NAMES}*"
        """Matches every name of ours on the wire."""
        self.token_place = f"{self.prefix}{OUR_NAMES}-tokens"
        """An index of ours without documents, which is never shown; see `aliasing.drop_with_token`."""
        self._closed = False
        self._known = False
        """Whether what answers was asked what it is."""
        self._driver = _driver(settings)
        if settings.sniff:
            try:
                self._driver.transport.sniff_hosts(True)
            except OpenSearchException as error:
                self.close()
                raise IndexUnavailable(
                    f"OpenSearch at {', '.join(settings.hosts)} does not say which nodes it has: {_first_line(error)}.",
                    hint="See that the cluster runs, and that opensearch.hosts and its credentials are right.",
                ) from error

    def __repr__(self) -> str:
        return f"<Client {', '.join(self.settings.hosts)} prefix={self.prefix!r}>"

    # Names

    def wire(self, name: str) -> str | None:
        """A name of ours as the cluster knows it; None for one that cannot be there: it is not ours, or no name."""
        wired = self.prefix + name
        if (
            not name
            or wired != wired.lower()
            or _FORBIDDEN.search(wired)
            or wired[0] in "-_+."
            or not self.is_ours(wired)
        ):
            return None
        return wired if len(wired.encode("utf-8", "replace")) <= _LARGEST_NAME else None

    def wired(self, name: str) -> str:
        """The same of an index that is to be read. `IndexMissing` for what cannot be there."""
        found = self.wire(name)
        if found is None:
            raise IndexMissing(f"There is no index {name!r}.")
        return found

    def made(self, name: str) -> str:
        """The same of something that is to be made. `InvalidInput` for what OpenSearch, or we, cannot call so."""
        found = self.wire(name)
        if found is None:
            begin = "" if self.prefix else f" and begin with {OUR_NAMES!r}, because no opensearch.prefix is set"
            raise InvalidInput(
                f"{name!r} cannot be the name of an index or alias: it must be in lower case, without blanks and signs like"
                f" * or /{begin}."
            )
        return found

    def is_ours(self, wired: str) -> bool:
        return wired.startswith(self.prefix or OUR_NAMES)

    def ours(self, wired: str) -> str:
        """A name without the prefix. Another's, where an alias of ours names it, stays as it is."""
        return wired[len(self.prefix) :] if self.is_ours(wired) else wired

    # Requests

    @property
    def patience(self) -> Mapping[str, str]:
        """Parameters of a request that changes the cluster's state: how long it waits for all nodes."""
        seconds = f"{self.settings.timeout_seconds:g}s"
        return {"timeout": seconds, "cluster_manager_timeout": seconds}

    def concrete(self) -> Mapping[str, Any]:
        """All concrete indices under our names, open or closed: by their names on the wire, what is told of their mappings."""
        found: Mapping[str, Any] = self.ask("GET", f"/{self.pattern}/_mapping", params={"expand_wildcards": "all"})
        return found

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content: str = JSON,
        repeat: bool = True,
    ) -> Any:
        """One request; the answer's JSON. Every error is one of ours, chained. See `send`."""
        try:
            return self.send(method, path, body, params=params, content=content, repeat=repeat)
        except Refusal as refusal:
            raise refusal.translated(f"{method} {path.partition('?')[0][:200]}") from refusal

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        params: Mapping[str, str] | None = None,
        content: str = JSON,
        repeat: bool = True,
    ) -> Any:
        """One request; the answer's JSON, an object. `Refusal` for an answer that says no.

        Tried again for `retry_seconds` while the cluster is away or answers one of the statuses in `BUSY`, with growing
        random pauses, in turn at all hosts. With `repeat=False` it is sent once, whatever happens: only where no
        connection came about, and so nothing was sent, is another one tried.
        """
        if not self._known:
            self._greet()
        return self._tried(method, path, body, params, content, repeat)

    def search_together(self, path: str, body: Any, *, seconds: float | None = None) -> list[dict[str, Any]]:
        """Searches in one request (`_msearch`); the answer to each. `Refusal` for one that says no.

        What says no inside the answer is tried again like a request of its own, but begins no new try after `seconds`; not
        where another one says what no later try would change.
        """
        longest = self.settings.retry_seconds
        deadline = time.monotonic() + (longest if seconds is None else min(seconds, longest))
        attempt = 0
        while True:
            answers: list[dict[str, Any]] = self.send("POST", path, body, content=LINES)["responses"]
            refusals = [refusal_of(int(each["status"]), each["error"]) for each in answers if "error" in each]
            if not refusals:
                return answers
            refusals.sort(key=lambda refusal: refusal.passes)
            if not refusals[0].passes or not pause(attempt, deadline):
                raise refusals[0]
            attempt += 1

    def _greet(self) -> None:
        """Asks what it is that answers. `{}`, as any server may say it, would read as a cluster without a single alias."""
        try:
            told = self._tried("GET", "/", None, None, JSON, repeat=True)
        except Refusal as refusal:
            if refusal.status not in (401, 403):
                raise
            self._known = refusal.status == 403  # what is asked next says what this user may do
            return
        version = told.get("version")
        if not isinstance(version, dict) or version.get("distribution") != "opensearch":
            said = version.get("number") if isinstance(version, dict) else None
            what = f"another server ({said})" if isinstance(said, str) else "something else"
            raise IndexUnavailable(
                f"What answers at {', '.join(self.settings.hosts)} is not OpenSearch, but {what[:100]}.",
                hint="See that opensearch.hosts names an OpenSearch cluster, or a proxy that passes its answers on.",
            )
        number = version.get("number")
        major = str(number).partition(".")[0]
        # 7 is what a cluster says that was told to pass for an older relative of its own.
        if major.isdecimal() and int(major) < OLDEST:
            raise IndexUnavailable(
                f"OpenSearch at {', '.join(self.settings.hosts)} is of version {str(number)[:20]}; {OLDEST} or newer is needed.",
                hint="Upgrade the cluster.",
            )
        self._known = True

    def _tried(
        self, method: str, path: str, body: Any, params: Mapping[str, str] | None, content: str, repeat: bool
    ) -> Any:
        what = f"{method} {path.partition('?')[0][:200]}"
        deadline = time.monotonic() + self.settings.retry_seconds
        for attempt in range(1_000_000):
            try:
                return self._once(what, method, path, body, params, content)
            except _Away as away:
                if away.final or not (repeat or away.unsent) or not pause(attempt, deadline):
                    raise away.error from away.__cause__
            except Refusal as refusal:
                if not (repeat and refusal.passes) or not pause(attempt, deadline):
                    raise
        raise AssertionError

    def _once(
        self, what: str, method: str, path: str, body: Any, params: Mapping[str, str] | None, content: str
    ) -> Any:
        if self._closed:
            raise IndexUnavailable("The index was closed.")
        try:
            answer = self._driver.transport.perform_request(
                method,
                path,
                params=dict(params or {}),
                body=body,
                timeout=self.settings.timeout_seconds,
                headers={"content-type": content},
            )
        except TransportError as error:
            if isinstance(error.status_code, int):
                raise refusal_in(error.status_code, error.info) from error
            raise _away(what, error, self.settings) from error
        except OpenSearchException as error:
            raise _Away(_not_understood(what)) from error
        if not isinstance(answer, dict):
            raise _Away(_not_understood(what))
        return answer

    def reopened(self) -> Client:
        """The same through connections of its own."""
        return Client(self.settings)

    def close(self) -> None:
        """Close every connection. Fine to call twice."""
        self._closed = True
        transport = self._driver.transport
        # The pool's own close forgets the connections of hosts that are marked as dead.
        for connection in {
            *transport.seed_connections,
            *(each for each, _ in transport.connection_pool.connection_opts),
        }:
            connection.close()


class _Away(Exception):
    """No answer, or none that can be read. `unsent`: no connection came about, so nothing can have been done. `final`:
    another try would meet the same."""

    def __init__(self, error: IndexUnavailable, *, unsent: bool = False, final: bool = False) -> None:
        super().__init__(error.message)
        self.error = error
        self.unsent = unsent
        self.final = final


def _away(what: str, error: TransportError, settings: OpenSearchSettings) -> _Away:
    hosts = ", ".join(settings.hosts)
    if isinstance(error, SSLError):
        if "WRONG_VERSION_NUMBER" in str(error.info):
            found = IndexUnavailable(f"{what}: {hosts} does not speak https.", hint=_PLAIN_HINT)
            return _Away(found, final=True)
        found = IndexUnavailable(
            f"{what}: no trusted connection to OpenSearch at {hosts}: {_first_line(error.info)}.", hint=_TLS_HINT
        )
        return _Away(found, final=True)
    if isinstance(error, ConnectionTimeout):
        seconds = f"{settings.timeout_seconds:g}"
        hint = "See whether the cluster is overloaded (GET _cluster/health, GET _nodes/stats); raise opensearch.timeout_seconds."
        return _Away(
            IndexUnavailable(f"{what}: OpenSearch at {hosts} did not answer within {seconds} s.", hint=hint),
            unsent=False,
        )
    unsent = isinstance(error.info, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)
    reached = "cannot be reached" if unsent else "broke off its answer"
    hint = "See that the cluster runs and that opensearch.hosts names it." if unsent else "Run it again."
    kind = type(error.info).__name__ if isinstance(error, NoConnection) else "sniffing"
    return _Away(IndexUnavailable(f"{what}: OpenSearch at {hosts} {reached} ({kind}).", hint=hint), unsent=unsent)


def _not_understood(what: str) -> IndexUnavailable:
    return IndexUnavailable(
        f"{what}: what answered is not OpenSearch, or its answer was damaged: it is not JSON.",
        hint="See that opensearch.hosts names the cluster itself, or a proxy that passes its answers on.",
    )


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def pause(attempt: int, deadline: float) -> bool:
    """Wait before the next try; False where the time is over."""
    longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** min(attempt, 10))
    wait = longest * random.uniform(0.5, 1.0)  # noqa: S311 - so that clients do not come back all at once
    if time.monotonic() + wait > deadline:
        return False
    time.sleep(wait)
    return True


def _driver(settings: OpenSearchSettings) -> OpenSearch:
    hosts = []
    for host in settings.hosts:
        parts = urlsplit(host)
        hosts.append({"host": parts.hostname, "port": parts.port, "url_prefix": parts.path})
    options: dict[str, Any] = {}
    if settings.hosts and settings.hosts[0].startswith("https:"):
        options |= {"use_ssl": True, "ssl_context": _trust(settings)}
    if settings.username is not None and settings.password is not None:
        # By hand, because the driver writes it in Latin-1.
        token = base64.b64encode(f"{settings.username}:{settings.password.get_secret_value()}".encode()).decode()
        options["headers"] = {"authorization": f"Basic {token}"}
    return OpenSearch(
        hosts=hosts,
        connection_class=_Connection,
        serializer=_Orjson(),
        timeout=settings.timeout_seconds,
        # What is tried again, and for how long, is decided here and not in the driver, which knows no harmful repetition.
        max_retries=0,
        retry_on_timeout=True,  # with no retries: mark the host as dead, so that the next try goes to another one
        dead_timeout=_DEAD_SECONDS,
        pool_maxsize=_CONNECTIONS,
        sniff_on_connection_fail=settings.sniff,
        **options,
    )


def _trust(settings: OpenSearchSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    except OSError as error:
        raise ConfigurationError(
            f"The file of certificates {settings.ca_file} cannot be read: {error.strerror or 'it holds no certificate'}.",
            hint="Give a PEM file in opensearch.ca_file.",
        ) from error
    if not settings.verify_certificates:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return context
