"""Credentials reach the cluster and nothing else: no log, no repr, no error, no address."""

from __future__ import annotations

import base64
import logging
import traceback
from typing import Any

import pytest
from scripted import Answer, error, serving

from speakerdb.errors import ConfigurationError, SpeakerDBError
from speakerdb.index.opening import open_index
from speakerdb.index.opensearch.adapter import OpenSearchIndex
from speakerdb.settings import OpenSearchSettings, load_settings

SECRET = "s3cr3t:\u00fc@/"  # noqa: S105
QUOTED = "s3cr3t%3A%C3%BC%40%2F"


@pytest.mark.parametrize(
    "answer",
    [Answer(), error(401, "security_exception"), error(500, "x"), Answer(None), Answer(200, b"<html>", "text/html")],
    ids=["good", "refused", "broken", "silent", "html"],
)
@pytest.mark.parametrize("where", ["in the address", "apart"])
def test_credentials_are_sent_and_never_shown(
    where: str, answer: Answer, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG), serving(answer) as script:
        if where == "apart":
            given: dict[str, Any] = {"hosts": (script.url,), "username": "somebody", "password": SECRET}
        else:
            given = {"hosts": (script.url.replace("//", f"//somebody:{QUOTED}@"),)}
        settings = OpenSearchSettings(**given, retry_seconds=0.0)
        index = OpenSearchIndex(settings)
        try:
            index.aliases()
        except SpeakerDBError as found:
            shown += traceback.format_exception(found)
            shown += [found.hint, str(found.details)]
        shown += [repr(settings), repr(index), repr(index._client), settings.model_dump_json(), str(settings.hosts)]
        index.close()
    token = base64.b64encode(f"somebody:{SECRET}".encode()).decode()
    assert script.asked[0].headers["authorization"] == f"Basic {token}"
    everything = "\n".join([*shown, caplog.text, *capfd.readouterr()])
    for private in (SECRET, QUOTED, token, "s3cr3t", "somebody:"):
        assert private not in everything


@pytest.mark.parametrize(
    "variables",
    [
        {"SPEAKERDB_OPENSEARCH__HOSTS": "http://u:s3cr3t@a:port"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "ftp://u:s3cr3t@a"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "http://u:s3cr3t@a,http://u:s3cr3t2@b"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "http://u:s3cr3t@a,https://u:s3cr3t@b"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "http://u:s3cr3t@"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": '["http://u:s3cr3t@a"'},
        {"SPEAKERDB_OPENSEARCH": '{"hosts": ["http://u:s3cr3t@a"'},
        {"SPEAKERDB_OPENSEARCH": '{"hosts": {"s3cr3t": 1}}'},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "a", "SPEAKERDB_OPENSEARCH__PASSWORD": "s3cr3t"},
        {"SPEAKERDB_OPENSEARCH__HOSTS": "http://u:s3cr3t@a", "SPEAKERDB_OPENSEARCH__PASSWORD": "s3cr3t"},
        {"SPEAKERDB_OPENSEARCH__PASSWORT": "s3cr3t"},
    ],
)
def test_settings_that_cannot_be_used_do_not_repeat_them(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as found:
        load_settings()
    assert "s3cr3t" not in "".join(traceback.format_exception(found.value))
    assert "opensearch" in str(found.value)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("search-1", ("http://search-1:9200",)),
        ("https://a, https://b:9201/x/ ,", ("https://a:443", "https://b:9201/x")),
        ('["http://[::1]:9201"]', ("http://[::1]:9201",)),
    ],
)
def test_hosts_as_a_variable(text: str, hosts: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEAKERDB_OPENSEARCH__HOSTS", text)
    assert load_settings().opensearch.hosts == hosts


def test_the_settings_say_which_index(tmp_path: Any) -> None:
    embedded = open_index(load_settings(data_dir=tmp_path))
    assert type(embedded).__name__ == "EmbeddedIndex"
    embedded.close()
    there = open_index(load_settings(data_dir=tmp_path, opensearch={"hosts": ["http://127.0.0.1:1"]}))
    assert isinstance(there, OpenSearchIndex)
    there.close()


@pytest.mark.parametrize(
    ("variable", "said"),
    [
        ("SPEAKERDB_OPENSEARCH__USERNAME", "opensearch: username and password belong together"),
        ("SPEAKERDB_OPENSEARCH__HOST", "opensearch.host: There is no such setting"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(variable: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "http://x")
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert said in caught.value.message
