"""Settings, from (strongest first) arguments, `SPEAKERDB_…` variables, `.env`, and a TOML file.

The TOML file is the one `SPEAKERDB_CONFIG` names, else `speakerdb.toml` in the working directory. `SPEAKERDB_DATA_DIR`
alone is enough to run.
"""

from __future__ import annotations

import difflib
import fnmatch
import getpass
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from speakerdb.errors import ConfigurationError
from speakerdb.events import KINDS
from speakerdb.generations import BUILT_IN
from speakerdb.types import Generation, ModelSpec, OperatingPoint

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACE_ACCESS_TOKEN")


class GenerationSettings(BaseModel):
    """A new generation, or changes to a built-in one of the same name. What is left out keeps its built-in value."""

    model_config = ConfigDict(extra="forbid")

    family: Literal["pyannote", "spectral"] | None = Field(
        default=None, description="`pyannote`, or `spectral` for the stand-in that needs no weights."
    )
    model: str | None = Field(
        default=None, description="Hub id, or a name of your choice; for `spectral`: `spectral-a` or `spectral-b`."
    )
    architecture: str | None = Field(default=None, description="Class that the checkpoint must hold; any if left out.")
    dimension: int | None = Field(default=None, ge=1, le=65536, description="Length of its vectors.")
    revision: str | None = Field(default=None, description="Revision of the hub repository.")
    subfolder: str | None = Field(
        default=None, description="Folder of the hub repository in which the checkpoint lies."
    )
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{64}$",
        description="Checksum of the checkpoint file. Without it no checkpoint is loaded.",
    )
    sources: tuple[str, ...] | None = Field(
        default=None, description="Where to look, in order: `cache`, `hub`, or a path to a file or folder."
    )
    accept: float | None = Field(default=None, ge=-1, le=1, description="Cosine from which a match is accepted.")
    candidate: float | None = Field(default=None, ge=-1, le=1, description="Cosine below which it is rejected.")
    margin: float | None = Field(
        default=None, ge=0, le=2, description="How far ahead of the next person an accepted match must be."
    )
    recipe: str | None = Field(default=None, description="Name of the recipe; follows the budget unless given.")
    budget_seconds: float | None = Field(
        default=None, gt=0, description="Seconds of speech used for each speaker of a recording."
    )

    @field_validator("model")
    @classmethod
    def _without_revision(cls, given: str | None) -> str | None:
        if given is not None and "@" in given:
            name, _, revision = given.partition("@")
            raise ValueError(f"a model's revision is a setting of its own: model = {name!r}, revision = {revision!r}")
        return given

    def applied_to(self, base: Generation | None, name: str) -> Generation:
        """The generation these settings describe. `ConfigurationError` when a new one is not complete."""
        if base is None:
            if self.model is None or self.family is None or self.dimension is None:
                raise ConfigurationError(
                    f"Generation {name!r} is not complete.",
                    hint=f"Give [generations.{name}] at least family, model and dimension.",
                )
            base = Generation(
                name, ModelSpec(self.family, self.model, self.dimension), OperatingPoint(0.75, 0.50, 0.05)
            )
        elif self.model is not None and self.model != base.model.id:
            # Another model inherits neither the pinned revision nor the pinned checkpoint of the one it replaces.
            base = replace(base, model=replace(base.model, id=self.model, revision=None, subfolder=None, sha256=None))
        spec = {
            key: value
            for key in ("family", "architecture", "dimension", "revision", "subfolder", "sha256", "sources")
            if (value := getattr(self, key)) is not None
        }
        point = {key: v for key in ("accept", "candidate", "margin") if (v := getattr(self, key)) is not None}
        recipe = base.recipe
        if self.budget_seconds is not None:
            recipe = replace(
                recipe, name=self.recipe or f"spread-{self.budget_seconds:g}", budget_seconds=self.budget_seconds
            )
        elif self.recipe is not None:
            recipe = replace(recipe, name=self.recipe)
        return replace(
            base,
            model=replace(base.model, **spec),
            operating_point=replace(base.operating_point, **point),
            recipe=recipe,
        )


class ModelSettings(BaseModel):
    """How models are found and kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    offline: bool = Field(
        default=False, description="Forbid every look-up over the network: only what is on this machine."
    )
    folder: Path | None = Field(
        default=None,
        description="Folder of the models that `models install` put on this machine; models in data_dir unless set.",
    )
    keep: Literal["auto", "one", "all"] = Field(
        default="auto",
        description="How many models a worker holds: all, one at a time, or (auto) as many as fit into its memory.",
    )

    @field_validator("folder")
    @classmethod
    def _stays_where_it_is(cls, given: Path | None) -> Path | None:
        return None if given is None else given.expanduser().absolute()


class OpenSearchSettings(BaseModel):
    """An OpenSearch cluster as the index. Without `hosts` the embedded index is used."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

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


class ApiSettings(BaseModel):
    """The HTTP API of `speakerdb serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. One that others can reach needs a token first: `speakerdb token create`.",
    )
    port: int = Field(default=8765, ge=0, le=65535, description="Port to listen on. 0: any that is free.")
    body_mb: float = Field(
        default=1.0, gt=0, le=64, description="Megabytes that the JSON of a request may have at most."
    )
    turns_mb: float = Field(
        default=16.0, gt=0, le=256, description="The same for requests that bring the turns of a recording."
    )
    upload_mb: float = Field(default=4096.0, gt=0, description="Megabytes that an uploaded file may have at most.")
    clip_mb: float = Field(default=64.0, gt=0, description="Megabytes that an uploaded clip to be matched may have.")
    uploads: Path | None = Field(
        default=None, description="Folder of the uploaded files; `uploads` in `data_dir` unless set."
    )
    body_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds within which a request's body must have come. A large one has more: one for each 16 KiB.",
    )
    threads: int = Field(
        default=8,
        ge=1,
        le=64,
        description="Requests that are worked on at once. Each uses one connection to the database.",
    )
    waiting: int = Field(
        default=256, ge=1, le=10_000, description="Requests that may wait for their turn. One more gets 503 (`busy`)."
    )
    waiting_seconds: float = Field(
        default=30.0, gt=0, description="Seconds a request waits for its turn at most; then it gets 503 (`busy`)."
    )
    streams: int = Field(
        default=64, ge=1, le=10_000, description="Connections that may follow a migration's progress at once."
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For is believed. None given: nobody's is.",
    )
    cors_origins: tuple[str, ...] = Field(
        default=(),
        description="Web pages of other origins that may ask, for example `https://tools.example.org`. None: none.",
    )

    @field_validator("uploads")
    @classmethod
    def _stays_where_it_is(cls, given: Path | None) -> Path | None:
        return None if given is None else given.expanduser().absolute()

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            ip_network(each, strict=False)
        return given


class ScheduleSettings(BaseModel):
    """When the jobs of `speakerdb serve` run, and for how long is kept what nobody needs for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    check_minutes: float = Field(
        default=10.0,
        gt=0,
        description="Minutes between two cheap comparisons of SQL with each live index, and the repair of what they find.",
    )
    walk_hours: float = Field(
        default=24.0,
        gt=0,
        description="Hours between two shares of the walk that compares the vectors themselves.",
    )
    keep_events_days: float = Field(
        default=0.0,
        ge=0,
        description="Days after which events about routine are deleted, for example that a recording was added. 0: never. What"
        " people decided, what was removed and what became of migrations is never deleted.",
    )
    keep_runs_days: float = Field(
        default=90.0,
        gt=0,
        description="Days for which it is kept what each repair found and did; the last ones always.",
    )
    remind_days: float = Field(
        default=7.0,
        ge=0,
        description="Days before the end of a roll-back period from which on an event reminds of it, once a day.",
    )


class RepairSettings(BaseModel):
    """What a repair leaves alone, and what keeps it from acting. When it runs is said under `schedule`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    grace_seconds: float = Field(
        default=60.0, ge=0, description="Seconds for which a repair leaves alone what was just changed."
    )
    walk_share: int = Field(
        default=7, ge=1, description="In so many shares all vectors are compared: with 7 and one share a day, in a week."
    )
    max_deletions: int = Field(
        default=10, ge=0, description="So many documents without a row repairs may delete in 24 hours, however small the index."
    )
    max_deletion_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Of all documents, the share that repairs may delete in 24 hours where that is more than `max_deletions`."
        " Beyond it the whole repair is refused.",
    )
    run_hours: float = Field(default=2.0, gt=0, le=24, description="Hours that one repair may take; half of it to compare.")
    tombstone_days: float = Field(
        default=7.0,
        gt=0,
        description="Days for which the document of something that was deleted says so, and keeps older writes from bringing it"
        " back.",
    )


class HookSettings(BaseModel):
    """A command that `speakerdb serve` runs for events, for example to send a mail."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    on_event: tuple[str, ...] = Field(
        default=(),
        description="The command and its arguments. It gets the event as JSON on its standard input. No shell is involved."
        " None given: nothing is run.",
    )
    kinds: tuple[str, ...] = Field(
        default=(),
        description="Kinds of events it is run for, `*` in one stands for anything: `migration-*`. None given: those that a"
        " person should hear of.",
    )
    timeout_seconds: float = Field(
        default=10.0, gt=0, le=60, description="Seconds a run may take before it is ended and counts as failed."
    )
    attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="How often an event is tried, after delays that grow, before it is passed over.",
    )

    @field_validator("kinds")
    @classmethod
    def _exist(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in given:
            if not fnmatch.filter(KINDS, pattern):
                raise ValueError(f"no kind of event is like {pattern!r}")
        return given


class PreferenceSettings(BaseModel):
    """Which generation answers, where it is not to be the one that the alias names. Emergencies, and comparisons."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: str | None = Field(
        default=None,
        description="`auto`, or the generation that alone answers. PYANNOTE_MODE says the same.",
    )
    version: str | None = Field(
        default=None,
        description="With the mode `auto`: the generation that answers wherever both sides have it. Without a mode it alone"
        " answers. PYANNOTE_VERSION says the same.",
    )
    fallback: str | None = Field(
        default=None, description="The generation that answers elsewhere. PYANNOTE_FALLBACK says the same."
    )


class _OldSwitches(PydanticBaseSettingsSource):
    """The three variables by which the old product chose a generation: `PYANNOTE_MODE`, `_VERSION` and `_FALLBACK`."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  the base class's
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self._variables.get(f"pyannote_{name}") for name in PreferenceSettings.model_fields}
        return {"preference": {name: value for name, value in found.items() if value}} if any(found.values()) else {}


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


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "speakerdb"


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="SPEAKERDB_", env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True,
        hide_input_in_errors=True,
    )  # fmt: skip

    data_dir: Path = Field(
        default_factory=_default_data_dir,
        description="Folder of the catalog, the index and the locks; under `XDG_DATA_HOME` where that is set.",
    )
    database_url: str | None = Field(
        default=None,
        repr=False,
        description="SQLAlchemy address of the catalog, `sqlite:///…` or `postgresql+psycopg://…`; `catalog.db` in `data_dir`"
        " unless set.",
    )
    auto_upgrade: bool = Field(
        default=True, description="Upgrade the database's schema when it is opened. If off, run `speakerdb db upgrade`."
    )
    media_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(),
        description="Folders in which media may lie; any folder if empty. As a variable: joined as in PATH, for example"
        " `/srv/media:/srv/films`.",
    )
    serving: str = Field(
        default="v4",
        description="The generation that a new library begins with. Read at the first start only; later the alias says.",
    )
    generations: dict[str, GenerationSettings] = Field(
        default_factory=dict, description="New generations, or changes to v3 and v4; see below."
    )
    models: ModelSettings = Field(default_factory=ModelSettings, description="How models are found and kept.")
    opensearch: OpenSearchSettings = Field(
        default_factory=OpenSearchSettings, description="An OpenSearch cluster as the index; see below."
    )
    api: ApiSettings = Field(default_factory=ApiSettings, description="The HTTP API; see below.")
    repair: RepairSettings = Field(
        default_factory=RepairSettings, description="What repairs leave alone, and their brakes; see below."
    )
    schedule: ScheduleSettings = Field(
        default_factory=ScheduleSettings, description="When the jobs of the service run; see below."
    )
    hooks: HookSettings = Field(
        default_factory=HookSettings, description="A command that is run for events; see below."
    )
    preference: PreferenceSettings = Field(
        default_factory=PreferenceSettings,
        description="Which generation answers, where it is not to be the one that the alias names; see below.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="`auto`, `cpu`, `cuda` or `cuda:N`. If CUDA cannot be used, the CPU is, and you are told.",
    )
    allow_unknown_checkpoints: bool = Field(
        default=False, description="Load checkpoints whose SHA-256 is not pinned. A checkpoint is a program."
    )
    telemetry: bool = Field(default=False, description="Let `pyannote.audio` report its use to its makers.")
    executor: Literal["process", "inline"] = Field(
        default="process",
        description="`process`: extract in worker processes, which can be ended when they hang. `inline`: in this one.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Worker processes. Each loads the model; on a CPU one already uses all cores.",
    )
    recording_timeout: float = Field(
        default=900.0,
        gt=0,
        description="Seconds one recording may take in a worker before it is ended (`worker-timeout`). Loading the model counts.",
    )
    batch_recordings: int = Field(
        default=16, ge=1, le=4096, description="Recordings that are taken from the queue and committed in one step."
    )
    lease_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds a lease lasts without renewal. Counts for a holder that died on another machine.",
    )
    fence_seconds: float = Field(
        default=10.0, gt=0, description="Seconds for which a finalize may keep writers waiting at most."
    )
    rollback_days: float = Field(
        default=30.0,
        ge=0,
        description="Days after a finalize for which you plan to keep the source. It is shown; nothing happens by itself.",
    )
    who: str | None = Field(
        default=None, description="Who does what is done, in the events; the user of the operating system unless set."
    )
    disk_floor_mb: int = Field(
        default=512, ge=0, description="Megabytes that must be left over on the disk; else the pre-flight fails."
    )

    @field_validator("data_dir")
    @classmethod
    def _stays_where_it_is(cls, given: Path) -> Path:
        # SQLite opens its address again for every connection; a relative one would follow the working directory.
        return given.expanduser().absolute()

    @field_validator("media_roots", mode="before")
    @classmethod
    def _from_a_variable(cls, given: object) -> object:
        if not isinstance(given, str):
            return given
        return json.loads(given) if given.startswith("[") else [part for part in given.split(os.pathsep) if part]

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  the base class's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = TomlConfigSettingsSource(settings_cls, Path(os.environ.get("SPEAKERDB_CONFIG", "speakerdb.toml")))
        given, written = (getattr(source, "env_vars", {}) for source in (env_settings, dotenv_settings))
        return (
            init_settings, env_settings, _OldSwitches(settings_cls, given), dotenv_settings,
            _OldSwitches(settings_cls, written), toml,
        )  # fmt: skip

    @property
    def catalog_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'catalog.db'}"

    @property
    def actor(self) -> str:
        """Who does what is done, in the events."""
        if self.who:
            return self.who
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "unknown"

    @property
    def index_path(self) -> Path:
        return self.data_dir / "index.db"

    @property
    def uploads_folder(self) -> Path:
        return self.api.uploads or self.data_dir / "uploads"

    @property
    def readable_roots(self) -> tuple[Path, ...]:
        """Folders that media may be read from: `media_roots`, and what was uploaded; none where everything may."""
        return (*self.media_roots, self.uploads_folder) if self.media_roots else ()

    @property
    def models_folder(self) -> Path:
        return self.models.folder or self.data_dir / "models"

    def known_generations(self) -> Mapping[str, Generation]:
        """Built-in generations with the settings applied, and new ones."""
        known = dict(BUILT_IN)
        for name, changes in self.generations.items():
            known[name] = changes.applied_to(BUILT_IN.get(name), name)
        return known


def load_settings(**overrides: object) -> Settings:
    """Settings from all sources. `ConfigurationError` names the setting or the file that is wrong."""
    _check_file()
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except SettingsError as error:  # a variable that must be JSON is none; its text may hold a password
        raise ConfigurationError(f"The settings cannot be used: {error}.") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {_said(e)}" for e in error.errors())
        raise ConfigurationError(f"The settings cannot be used: {problems}.") from error


def _said(problem: Mapping[str, Any]) -> str:
    """What is wrong with one setting, without the words that only a programmer needs."""
    if problem["type"] == "extra_forbidden":
        return "There is no such setting"
    return str(problem["msg"]).removeprefix("Value error, ")


def unknown_variables() -> dict[str, str | None]:
    """`SPEAKERDB_…` variables that are no setting, so nothing reads them: the name of each with the one that is most like it.

    Parts of `models`, `opensearch` and `generations` are checked when the settings are read.
    """
    known = {f"SPEAKERDB_{name.upper()}" for name in Settings.model_fields} | {"SPEAKERDB_CONFIG"}
    given = sorted(name for name in os.environ if name.upper().startswith("SPEAKERDB_"))
    unknown = [name for name in given if name.upper().partition("__")[0] not in known]
    return {name: next(iter(difflib.get_close_matches(name.upper(), known, 1, 0.75)), None) for name in unknown}


def _check_file() -> None:
    """A settings file that was named must be there, must be TOML, and must not hold a setting that does not exist."""
    named = os.environ.get("SPEAKERDB_CONFIG")
    path = Path(named or "speakerdb.toml")
    if not path.is_file():
        if named:
            raise ConfigurationError(f"There is no settings file {named}.", hint="Mend SPEAKERDB_CONFIG.")
        return
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error}.") from error
    if unknown := sorted(set(given) - set(Settings.model_fields)):
        raise ConfigurationError(
            f"The settings file {path} has the unknown setting {unknown[0]!r}.",
            hint=f"Settings: {', '.join(Settings.model_fields)}.",
        )
