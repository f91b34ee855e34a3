"""Settings of what runs by itself: the HTTP API, the schedule, repair, the command hook, and whose answer is preferred."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from speakerdb.events import KINDS


class ApiSettings(BaseModel):
    """The HTTP API of `speakerdb serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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
        default=16.0,
        gt=0,
        le=256,
        description="The same for requests that bring the turns or the transcript of a recording.",
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

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for each in given:
            parts = urlsplit(each)
            if parts.scheme not in ("http", "https") or each != f"{parts.scheme}://{parts.netloc}" or "*" in each:
                raise ValueError(f"{each!r} is no origin: it is like https://tools.example.org, with nothing behind it")
        return given


class ScheduleSettings(BaseModel):
    """When the jobs of `speakerdb serve` run, and for how long is kept what nobody needs for ever."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    grace_seconds: float = Field(
        default=60.0, ge=0, description="Seconds for which a repair leaves alone what was just changed."
    )
    walk_share: int = Field(
        default=7,
        ge=1,
        description="In so many shares all vectors are compared: with 7 and one share a day, in a week.",
    )
    max_deletions: int = Field(
        default=10,
        ge=0,
        description="So many documents without a row repairs may delete in 24 hours, however small the index.",
    )
    max_deletion_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Of all documents, the share that repairs may delete in 24 hours where that is more than `max_deletions`."
        " Beyond it the whole repair is refused.",
    )
    run_hours: float = Field(
        default=2.0, gt=0, le=24, description="Hours that one repair may take; half of it to compare."
    )
    tombstone_days: float = Field(
        default=7.0,
        gt=0,
        description="Days for which the document of something that was deleted says so, and keeps older writes from bringing it"
        " back.",
    )


class HookSettings(BaseModel):
    """A command that `speakerdb serve` runs for events, for example to send a mail."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

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


class OldSwitches(PydanticBaseSettingsSource):
    """The three variables by which the old product chose a generation: `PYANNOTE_MODE`, `_VERSION` and `_FALLBACK`."""

    def __init__(self, settings_cls: type[BaseSettings], variables: Mapping[str, str | None]) -> None:
        super().__init__(settings_cls)
        self._variables = variables

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002  the base class's
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self._variables.get(f"pyannote_{name}") for name in PreferenceSettings.model_fields}
        return {"preference": {name: value for name, value in found.items() if value}} if any(found.values()) else {}
