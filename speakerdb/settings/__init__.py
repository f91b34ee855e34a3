"""Settings, from (strongest first) arguments, `SPEAKERDB_…` variables, `.env`, and a TOML file.

The TOML file is the one `SPEAKERDB_CONFIG` names, else `speakerdb.toml` in the working directory. `SPEAKERDB_DATA_DIR`
alone is enough to run.
"""

from __future__ import annotations

import difflib
import getpass
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from speakerdb.errors import ConfigurationError
from speakerdb.generations import BUILT_IN
from speakerdb.settings.diarizer import DiarizerSettings
from speakerdb.settings.extractor import ExtractorSettings
from speakerdb.settings.generations import GenerationSettings, ModelSettings
from speakerdb.settings.opensearch import OpenSearchSettings
from speakerdb.settings.overlap import OverlapSettings
from speakerdb.settings.service import (
    ApiSettings,
    HookSettings,
    OldSwitches,
    PreferenceSettings,
    RepairSettings,
    ScheduleSettings,
)
from speakerdb.types import Generation

__all__ = [
    "TOKEN_VARIABLES",
    "ApiSettings",
    "DiarizerSettings",
    "ExtractorSettings",
    "GenerationSettings",
    "HookSettings",
    "ModelSettings",
    "OpenSearchSettings",
    "OverlapSettings",
    "PreferenceSettings",
    "RepairSettings",
    "ScheduleSettings",
    "Settings",
    "load_settings",
    "unknown_variables",
]

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACE_ACCESS_TOKEN")


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "speakerdb"


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(
        env_prefix="SPEAKERDB_", env_file=".env", env_nested_delimiter="__", extra="ignore", frozen=True,
        hide_input_in_errors=True, allow_inf_nan=False,
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
    extractor: ExtractorSettings = Field(
        default_factory=ExtractorSettings, description="What computes embeddings; see below."
    )
    diarizer: DiarizerSettings = Field(
        default_factory=DiarizerSettings, description="What finds out who speaks when; see below."
    )
    overlap: OverlapSettings = Field(
        default_factory=OverlapSettings, description="What is measured of talk and voices; see below."
    )
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
        default=0,
        ge=0,
        le=256,
        description="Worker processes, which divide the cores between them; each loads the model. 0: one, or with `device`"
        " `auto` and several GPUs one for each.",
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
        ge=1,
        description="Seconds a lease lasts without renewal. Counts for a holder that died on another machine. Below ten, a"
        " machine that is busy loses it in the middle of its work.",
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
            init_settings, env_settings, OldSwitches(settings_cls, given), dotenv_settings,
            OldSwitches(settings_cls, written), toml,
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
