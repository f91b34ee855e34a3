"""Whether each generation's model can be had: on this machine, or from the hub, which is asked without a download."""

from __future__ import annotations

from collections.abc import Iterator

from speakerdb.diarizers.finding import CloudPipeline
from speakerdb.diarizers.loading import DiarizerLoader
from speakerdb.errors import ModelOffline, SpeakerDBError
from speakerdb.models import hub
from speakerdb.models.hub import HUB, Attempt
from speakerdb.models.manage import Models
from speakerdb.models.telling import backend_of
from speakerdb.reports.mending import DoctorCheck, Finding, ModelView
from speakerdb.settings import TOKEN_VARIABLES, Settings

PLACES = {"store": "speakerdb's models", "cache": "the hub's cache"}


def check_access(settings: Settings, needed: frozenset[str], *, network: bool) -> Iterator[DoctorCheck]:
    """One check a generation. What is wrong fails for those in `needed`, and is a warning for the others."""
    models = Models(settings)
    generations = settings.known_generations()
    for name, generation in generations.items():
        view = models.view(name)
        bad: Finding = "fail" if name in needed else "warn"
        title = f"model {name}"
        good = [p for p in view.places if p.verdict in ("good", "unknown")]
        damaged = [p for p in view.places if p.verdict == "damaged"]
        if not view.weights:
            yield DoctorCheck(title, "pass", f"{view.id} needs no checkpoint")
        elif good and view.pinned is None and not settings.allow_unknown_checkpoints:
            yield DoctorCheck(
                title, bad, f"{view.id} is here, but no checksum is pinned, so it is not loaded",
                f"If you trust it: SPEAKERDB_GENERATIONS__{name.upper()}__SHA256={good[0].sha256}",
            )  # fmt: skip
        elif good:
            where = PLACES.get(good[0].place, good[0].place)
            text = f"{view.id} is in {where}, its checksum is the pinned one"
            if view.pinned is None:
                text = f"{view.id} is in {where}; no checksum is pinned, and that is allowed"
            more = f"; the copy in {PLACES.get(damaged[0].place, damaged[0].place)} is damaged" if damaged else ""
            mend = "`speakerdb models verify --repair`" if damaged else ""
            yield DoctorCheck(title, "warn" if damaged else "pass", text + more, mend)
        elif damaged:
            yield DoctorCheck(
                title, bad, f"{view.id} is damaged here: {damaged[0].detail}", "`speakerdb models verify --repair`"
            )
        else:
            yield _elsewhere(settings, view, title, bad, network=network, asks=HUB in generation.model.sources)


def _elsewhere(
    settings: Settings, view: ModelView, title: str, bad: Finding, *, network: bool, asks: bool
) -> DoctorCheck:
    """The model is not on this machine: what the hub says of it, where it may be asked."""
    spec = settings.known_generations()[view.generation].model
    missing = f"{view.id} is not on this machine"
    bring = hub.hint(spec, hub.Outcome.OFFLINE)
    if not asks:
        return DoctorCheck(title, bad, f"{missing}, and its sources do not name the hub", hub.hint(spec, None))
    if settings.models.offline:
        return DoctorCheck(title, bad, f"{missing}, and models.offline forbids asking the hub", bring)
    if not network:
        return DoctorCheck(title, "warn", f"{missing}; the hub was not asked", "`speakerdb models fetch`")
    answer = hub.ask(spec)
    if isinstance(answer, Attempt):
        return DoctorCheck(
            title, bad, f"{missing}: {answer.outcome.value}, {answer.detail}", hub.hint(spec, answer.outcome)
        )
    size = f" ({answer / 1e6:,.0f} MB)" if answer else ""
    return DoctorCheck(
        title, "warn", f"{missing} yet; the hub would give it{size}",
        f"`speakerdb models fetch --generation {view.generation}`; else it is fetched when it is first needed.",
    )  # fmt: skip


def check_backends(settings: Settings, needed: frozenset[str]) -> Iterator[DoctorCheck]:
    """What computes each generation's vectors here, and why. What is wrong fails for those in `needed`."""
    for name, generation in settings.known_generations().items():
        view = backend_of(settings, generation)
        if view.ready:
            yield DoctorCheck(f"back end {name}", "pass", str(view))
        else:
            finding: Finding = "fail" if name in needed else "warn"
            yield DoctorCheck(f"back end {name}", finding, view.why, view.next_step)


def check_diarizer(settings: Settings, waiting: int) -> Iterator[DoctorCheck]:
    """Whether the diarization pipeline's files are here and may be loaded. Nothing is loaded, and the hub is not asked. What is
    wrong fails where recordings wait for it, and is a warning else."""
    pipeline = settings.diarizer.pipeline
    try:
        found = DiarizerLoader.of(settings).files_here()
    except ModelOffline as error:
        comes = "It is fetched when it is first needed; a gated one needs a token, and its terms accepted."
        finding: Finding = "skipped" if not waiting else "fail" if settings.models.offline else "warn"
        mend = error.hint if settings.models.offline else comes
        yield DoctorCheck("diarizer", finding, f"{pipeline} is not on this machine", mend)
    except SpeakerDBError as error:
        yield DoctorCheck("diarizer", "fail" if waiting else "warn", f"{error.code}: {error.message}", error.hint)
    else:
        cloud = isinstance(found, CloudPipeline)
        what = "sends the sound away, which is allowed" if cloud else "its files are here and may be loaded"
        yield DoctorCheck("diarizer", "pass", f"{pipeline}: {what}")


def check_token() -> Iterator[DoctorCheck]:
    """Whether there is a token for the hub. It is not shown, and not tried."""
    variable = hub.token_variable()
    if variable is not None:
        yield DoctorCheck("token", "pass", f"{variable} is set")
    elif hub.saved_token() is not None:
        yield DoctorCheck("token", "pass", "the hub's own log-in saved one")
    else:
        yield DoctorCheck("token", "pass", f"none; only gated models need one, in {TOKEN_VARIABLES[0]}")


def check_old_cache() -> Iterator[DoctorCheck]:
    """The cache folder of pyannote.audio 3, which is not used any more."""
    notice = hub.old_cache_notice()
    if notice is None:
        yield DoctorCheck("model cache", "pass", f"{hub.cache_folder('x').parent}")
    else:
        yield DoctorCheck("model cache", "warn", notice, f"`unset {hub.OLD_CACHE_VARIABLE}`")
