"""The connection to a cluster: what answers is OpenSearch, its certificates are trusted, and its nodes are found."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from scripted import Answer, Asked, error, opened, serving

from speakerdb.errors import ConfigurationError, IndexUnavailable
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.settings import OpenSearchSettings


def aliases(index: OpenSearchIndex) -> object:
    return index.aliases()


@pytest.mark.parametrize(
    ("greeting", "named"),
    [
        ({}, "something else"),
        ({"aliases": {}}, "something else"),
        ({"version": "2.0"}, "something else"),
        ({"version": {"number": "8.19.1", "build_flavor": "default"}}, "another server (8.19.1)"),
    ],
)
def test_what_is_not_opensearch_is_not_read_as_an_empty_cluster(greeting: dict[str, Any], named: str) -> None:
    with serving(Answer(), greeting=Answer(200, greeting)) as script:
        index = opened(script)
        for _ in range(2):
            with pytest.raises(IndexUnavailable, match="is not OpenSearch") as found:
                index.aliases()
            assert named in found.value.message
        assert script.asked == []
        index.close()


@pytest.mark.parametrize(
    ("number", "refused"), [("2.19.1", True), ("1.3.0", True), ("3.0.0", False), ("7.10.2", False)]
)
def test_a_cluster_that_is_too_old(number: str, refused: bool) -> None:
    greeting = Answer(200, {"version": {"distribution": "opensearch", "number": number}})
    with serving(Answer(), greeting=greeting) as script:
        index = opened(script)
        if refused:
            with pytest.raises(IndexUnavailable, match=f"version {number}"):
                index.aliases()
        else:
            assert index.aliases() == {}
        index.close()


def test_a_user_who_may_not_ask_what_it_is() -> None:
    with serving(Answer(), greeting=error(403, "security_exception")) as script:
        index = opened(script)
        assert index.aliases() == {}
        index.close()


def test_a_server_without_tls_behind_an_https_address() -> None:
    with serving(Answer()) as script:
        index = OpenSearchIndex(OpenSearchSettings(hosts=(script.url.replace("http:", "https:"),)))
        with pytest.raises(IndexUnavailable, match="does not speak https") as found:
            index.aliases()
        assert "http://" in found.value.hint
        index.close()


def test_a_file_of_authorities_that_cannot_be_used(tmp_path: Any) -> None:
    for path in (tmp_path / "absent.pem", tmp_path / "empty.pem"):
        if path.name == "empty.pem":
            path.write_text("nothing")
        with pytest.raises(ConfigurationError, match=path.name):
            OpenSearchIndex(OpenSearchSettings(hosts=("https://127.0.0.1:1",), ca_file=path))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for 127.0.0.1 that only who is given it trusts, and a server's side of it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            program, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out",
            folder / "ca.pem",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return folder / "ca.pem", context


def test_certificates(certificate: tuple[Path, ssl.SSLContext]) -> None:
    file, context = certificate
    with serving(Answer(200, {"p-a": {"aliases": {"p-w": {}}}}), tls=context) as script:
        for more in ({"ca_file": file}, {"verify_certificates": False}):
            index = opened(script, **more)
            assert index.aliases() == {"w": ("a",)}
            index.close()
        count = len(script.asked)
        index = opened(script)
        with pytest.raises(IndexUnavailable, match="CERTIFICATE_VERIFY_FAILED") as found:
            index.aliases()
        assert "opensearch.ca_file" in found.value.hint
        assert len(script.asked) == count
        index.close()


def test_nodes_are_found_only_where_it_was_asked_for() -> None:
    with serving(Answer()) as first:

        def answer(asked: Asked) -> Answer:
            if asked.path.startswith("/_nodes"):
                address = first.url.removeprefix("http://")
                return Answer(200, {"nodes": {"n": {"http": {"publish_address": address}}}})
            return Answer(200, {"p-here": {"aliases": {"p-w": {}}}})

        with serving(answer) as script:
            index = opened(script)
            assert index.aliases() == {"w": ("here",)}
            assert not any(each.path.startswith("/_nodes") for each in script.asked)
            index.close()
            index = opened(script, sniff=True)
            assert index.aliases() == {}
            assert len(first.asked) == 1
            index.close()
        with serving(Answer(503, b"no")) as script, pytest.raises(IndexUnavailable):
            opened(script, sniff=True)
