"""Settings of an OpenSearch cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode


class OpenSearchSettings(BaseModel):
    """An OpenSearch cluster as the index. Without `hosts` the embedded index is used."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses of the cluster's nodes, for example `https://search-1:9200`. As a variable: joined by commas."
        " None given: the embedded index in `data_dir`.",
    )
    username: str | None = Field(default=None, repr=False, description="Name for basic authentication.")
    password: SecretStr | None = Field(default=None, description="Password for basic authentication.")
    ca_file: Path | None = Field(
        default=None,
        description="File with the certificates of the authorities that are trusted; those of the system unless set.",
    )
    verify_certificates: bool = Field(
        default=True,
        description="Refuse a host whose certificate cannot be verified. Off only where you try things out.",
    )
    sniff: bool = Field(
        default=False,
        description="Ask the cluster for its nodes and talk to all of them. Off: only to `hosts`, as behind a proxy.",
    )
    timeout_seconds: float = Field(default=30.0, gt=0, description="Seconds to wait for one answer.")
    retry_seconds: float = Field(
        default=15.0,
        ge=0,
        description="For how long a request that may be repeated is tried again while the cluster is busy or not there.",
    )
    prefix: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9._-]{0,99})?$",
        description="Put before every name in the cluster, so that several installations can share it. Each needs one with which"
        " no other's begins.",
    )
    engine: Literal["lucene", "faiss"] = Field(
        default="lucene", description="The k-NN engine of indices that are made from now on."
    )
    shards: int = Field(default=1, ge=1, le=1024, description="Shards of indices that are made from now on.")
    replicas: int = Field(
        default=1, ge=0, le=32, description="Copies of each shard, on other nodes. 0 on a cluster of one node."
    )
    candidates: int = Field(
        default=2000,
        ge=10,
        le=10_000,
        description="How many near voices the graph collects for a search, at least. More find more surely, and take longer.",
    )
    bulk_megabytes: float = Field(
        default=8.0,
        gt=0,
        le=90,
        description="The most that is written by one request. The cluster's `http.max_content_length` (100 MB) must be above it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_credentials_in_hosts(cls, given: object) -> object:
        """`user:password@` of a host's address become `username` and `password`: an address is shown, they are not."""
        if not isinstance(given, dict) or given.get("hosts") is None:
            return given
        hosts = given["hosts"]
        if isinstance(hosts, str):
            try:
                hosts = json.loads(hosts) if hosts.lstrip().startswith("[") else hosts.split(",")
            except ValueError:
                raise ValueError("hosts: neither a JSON list nor addresses joined by commas") from None
        if not isinstance(hosts, list | tuple) or not all(isinstance(host, str) for host in hosts):
            raise ValueError("hosts: addresses are text, for example https://search-1:9200")
        found = [_taken_apart(host.strip()) for host in hosts if host.strip()]
        credentials = {each for _, each in found if each is not None}
        if len(credentials) > 1 or (credentials and (given.get("username") or given.get("password"))):
            raise ValueError("credentials belong into username and password, once for all hosts")
        if len({host.partition(":")[0] for host, _ in found}) > 1:
            raise ValueError("either all hosts are https, or none")
        merged = {**given, "hosts": tuple(host for host, _ in found)}
        for username, password in credentials:
            merged |= {"username": username, "password": password}
        return merged

    @model_validator(mode="after")
    def _both_or_none(self) -> OpenSearchSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password belong together")
        return self

    @field_validator("ca_file")
    @classmethod
    def _stays_where_it_is(cls, given: Path | None) -> Path | None:
        return None if given is None else given.expanduser().absolute()


def _taken_apart(host: str) -> tuple[str, tuple[str, str] | None]:
    """A host's address without credentials, with its port; and the credentials. Errors never repeat what was given."""
    try:
        parts = urlsplit(host if "://" in host else f"http://{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("hosts: an address cannot be read; give it as https://search-1:9200") from None
    if parts.scheme not in ("http", "https") or not name or parts.query or parts.fragment:
        raise ValueError("hosts: an address is http:// or https://, a name, a port, and a path where a proxy wants one")
    # The port of OpenSearch where none is given, as opensearch-py's users expect; behind https it is the usual one.
    port = port or (443 if parts.scheme == "https" else 9200)
    shown = f"[{name}]" if ":" in name else name
    credentials = None
    if parts.username is not None or parts.password is not None:
        credentials = (unquote(parts.username or ""), unquote(parts.password or ""))
    return f"{parts.scheme}://{shown}:{port}{parts.path.rstrip('/')}", credentials
