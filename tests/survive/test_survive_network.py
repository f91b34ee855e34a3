"""What stands between the application and the cluster: names, hosts that are cut off, certificates, passwords, proxies.

Each ends in one error that says what to do, and in nothing that was half done.
"""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from survive_kit import Place, Told, codes
from survive_proxies import Answer, Exchange, HttpProxy

from speakerdb.cli import session
from speakerdb.cli.main import main
from speakerdb.errors import IndexUnavailable
from speakerdb.testing.servers.opensearch import OpenSearch

QUICK = {"retry_seconds": 0.3}
HTML = {"content-type": "text/html"}
SECRET = "correct horse"  # noqa: S105 - what must not be shown


def refused(place: Place, hint: str, **search: Any) -> IndexUnavailable:
    """Opening fails, with a hint that says this."""
    with pytest.raises(IndexUnavailable) as caught:
        place.open(search=QUICK | search)
    error = caught.value
    assert (error.code, error.exit_code) == ("index-unavailable", 8)
    assert hint in error.hint, error.hint
    assert SECRET not in f"{error.message} {error.hint} {error.details} {error!r}"
    return error


def answers(status: int, body: bytes, headers: dict[str, str] | None = None) -> Any:
    """A plan that gives everybody this answer."""
    return lambda _: Answer(status, body, headers or {"content-type": "application/json"})


def test_a_name_that_does_not_resolve(place: Place, told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    place.open().close()
    real = socket.getaddrinfo

    def look_up(host: Any, *args: Any, **more: Any) -> Any:
        if host == "search.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    error = refused(place, "opensearch.hosts", hosts=("http://search.invalid:9200",))
    assert "search.invalid" in error.message


def test_nobody_listens(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    assert "cannot be reached" in refused(place, "opensearch.hosts", hosts=(f"http://127.0.0.1:{port}",)).message


def test_status_and_events_can_be_seen_while_nobody_answers(
    place: Place, told: Told, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They begin a process of their own, which cannot ask the cluster at its start either."""
    db = place.open()
    told.add(db, "one")
    told.settled(db)
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
    given = place.settings(search=QUICK | {"hosts": (f"http://127.0.0.1:{port}",)})
    monkeypatch.setattr(session.Session, "settings", lambda _: given)
    assert main(["status", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["recordings"], seen["serving"]) == (1, "?")
    assert [problem["code"] for problem in seen["problems"]] == ["index-unavailable"], "asked once, and said once"
    assert main(["events", "--json"]) == 0
    assert "recording-added" in capsys.readouterr().out
    assert main(["work", "--json"]) == IndexUnavailable.exit_code
    assert "opensearch.hosts" in capsys.readouterr().out


LOGIN = {"username": "ada", "password": SECRET}
PLANS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "401": (answers(401, b"Unauthorized", {"content-type": "text/plain"}), "opensearch.password", LOGIN),
    "401 as JSON": (answers(401, b'{"status":401,"error":"no"}'), "opensearch.password", LOGIN),
    "403": (
        answers(403, b'{"error":{"type":"security_exception","reason":"no permissions for [indices:admin]"},"status":403}'),
        "opensearch.username", LOGIN,
    ),
    "HTML": (answers(200, b"<html>Welcome</html>", HTML), "opensearch.hosts", {}),
    "HTML as an error": (answers(502, b"<html>Bad gateway</html>", HTML), "_cluster/health", {}),
    "a redirection": (answers(302, b"", HTML | {"location": "/login"}), "opensearch.hosts", {}),
    "an empty answer": (answers(200, b""), "", {}),
    "half an answer": (answers(200, b'{"speakers_v3": {"ali'), "opensearch.hosts", {}),
    "JSON of something else": (answers(200, b"[1, 2]"), "opensearch.hosts", {}),
    "too many requests": (answers(429, b'{"error":{"type":"circuit_breaking_exception"},"status":429}'), "_cluster/health", {}),
}  # fmt: skip


@pytest.mark.parametrize("what", PLANS)
def test_what_answers_is_not_what_was_wanted(proxied: Place, proxy: HttpProxy, told: Told, what: str) -> None:
    plan, hint, search = PLANS[what]
    db = proxied.open(search=QUICK | search)
    told.add(db, "one")
    told.settled(db)
    proxy.plan = plan
    refused(proxied, hint, **search)
    told.add(db, "two")
    for verb in (db.work, lambda: db.rebuild_index("v3"), lambda: db.match(speaker=told.has["one"][0])):
        db.serving.forget()
        with pytest.raises(IndexUnavailable) as caught:
            verb()
        assert hint in caught.value.hint
        if what == "403":
            assert "no permissions for [indices:admin]" in caught.value.message
    assert "index-unavailable" in codes(db), "status answers, and says so"
    proxy.plan = Exchange.forward
    told.settled(db)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1 that signed itself, with its key, in one file."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("makes a certificate with the program openssl, which is not here")
    file = tmp_path_factory.mktemp("tls") / "self-signed.pem"
    subprocess.run(
        [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(file), "-out", str(file) + ".crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_text(file.read_text() + Path(str(file) + ".crt").read_text())
    return file


@pytest.fixture
def secured(opensearch: OpenSearch, certificate: Path) -> Iterator[HttpProxy]:
    """Speaks https before the shared OpenSearch."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with closing(HttpProxy(opensearch.url, tls=context)) as standing:
        yield standing


def test_https_with_an_authority_that_nobody_knows(
    place: Place, secured: HttpProxy, certificate: Path, told: Told
) -> None:
    refused(place, "opensearch.ca_file", hosts=(secured.url,))
    assert secured.seen == [], "something was sent to whom nobody trusts"
    wrong = (secured.url.replace("127.0.0.1", "localhost"),)  # the certificate is of the address
    refused(place, "opensearch.ca_file", hosts=wrong, ca_file=certificate)
    assert secured.seen == []
    db = place.open(search={"hosts": (secured.url,), "ca_file": certificate} | LOGIN)
    told.add(db, "one")
    told.settled(db)


def test_http_to_an_https_port_and_https_to_an_http_port(place: Place, secured: HttpProxy, proxy: HttpProxy) -> None:
    refused(place, "", hosts=(secured.url.replace("https", "http"),))
    refused(place, "http://", hosts=(proxy.url.replace("http", "https"),))


def test_one_of_several_hosts_is_cut_off(place: Place, opensearch: OpenSearch, proxy: HttpProxy, told: Told) -> None:
    with closing(HttpProxy(opensearch.url)) as other:
        db = place.open(search={"hosts": (proxy.url, other.url)})
        told.add(db, "one", "two")
        told.settled(db)
        proxy.plan = lambda _: None  # whatever comes is cut
        told.add(db, "three")
        told.remove(db, "two")
        told.settled(db)
        proxy.close()  # and now nobody listens there
        db.start_migration("v4", force=True)
        db.work()
        db.finalize()
        told.settled(db)
        asked = len(other.seen)
        told.settled(place.open(search={"hosts": (proxy.url, other.url)}))
        assert len(other.seen) > asked
