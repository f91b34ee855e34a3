"""The checks in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from speakerdb.doctor.library import Facts, check_index, facts_of, look_at_database
from speakerdb.doctor.machine import Clock, check_decoding, check_disk, check_libraries, check_python
from speakerdb.doctor.models import check_access, check_backends, check_diarizer, check_old_cache, check_token
from speakerdb.errors import SpeakerDBError
from speakerdb.reports.mending import DoctorCheck
from speakerdb.settings import Settings, unknown_variables

Checks = Callable[[], Iterator[DoctorCheck]]


def examine(
    settings: Settings | None, *, network: bool = True, problem: SpeakerDBError | None = None
) -> Iterator[DoctorCheck]:
    """Every check, each as soon as it is done.

    `settings` is None where they could not be read; `problem` is then why, and only the machine is looked at. The network
    is used for models that are not on this machine, and not at all without `network` or with the setting models.offline.
    """
    clock = Clock()
    if settings is None:
        found = "cannot be read" if problem is None else problem.message
        yield DoctorCheck("settings", "fail", found, "" if problem is None else problem.hint)
    else:
        yield DoctorCheck("settings", "pass", f"read; the data folder is {settings.data_dir}")
    yield from _guarded("variables", _check_variables)
    yield from _guarded("python", check_python)
    telemetry = settings is not None and settings.telemetry
    yield from _guarded("torch", lambda: check_libraries(telemetry=telemetry, device=_device(settings)))
    yield from _guarded("decoding", check_decoding)
    yield from _guarded("model cache", check_old_cache)
    if settings is None:
        for name in ("models", "back ends", "disk", "database", "index", "clock"):
            yield DoctorCheck(name, "skipped", "the settings could not be read")
        return
    known = settings
    facts = Facts()

    def database() -> Iterator[DoctorCheck]:
        return look_at_database(known, facts)

    yield from _guarded("database", database)
    yield from _guarded("index", lambda: check_index(known, facts))
    yield from _guarded("models", lambda: check_access(known, facts_of(known, facts), network=network))
    yield from _guarded("back ends", lambda: check_backends(known, facts_of(known, facts)))
    yield from _guarded("diarizer", lambda: check_diarizer(known, facts.to_diarize))
    yield from _guarded("token", check_token)
    yield from _guarded("disk", lambda: check_disk(known))
    yield from _guarded("clock", lambda: clock.check(known.data_dir, facts.newest, facts.now))


def _check_variables() -> Iterator[DoctorCheck]:
    """Variables that look like settings and are none; nothing is said where there are none."""
    for name, close in unknown_variables().items():
        mend = "See the reference of the settings for their names." if close is None else f"Is {close} meant?"
        yield DoctorCheck("variables", "warn", f"nothing reads {name}", f"{mend} `unset {name}`")


def _device(settings: Settings | None) -> str:
    return "auto" if settings is None else settings.device


def _guarded(name: str, checks: Checks) -> Iterator[DoctorCheck]:
    try:
        yield from checks()
    except SpeakerDBError as error:
        yield DoctorCheck(name, "fail", f"{error.code}: {error.message}", error.hint)
    except Exception as error:  # noqa: BLE001 - a check that breaks is what was looked for, and the others must go on
        yield DoctorCheck(
            name, "fail", f"the check itself failed: {type(error).__name__}: {error}", "Report this as a bug."
        )
