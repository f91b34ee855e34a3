"""`speakerdb repair`: what differs between the database and an index, and mending it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from speakerdb.cli.live import StopSignals
from speakerdb.cli.output import facts, plural, print_list, table, when
from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session, WhyOption
from speakerdb.cli.show import say
from speakerdb.core.drift import FORCES
from speakerdb.errors import InvalidInput, SafetyStop

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from speakerdb.reports.repairing import (
        GenerationHealth,
        GenerationPlan,
        GenerationRepair,
        QuarantineView,
        RepairPlan,
        RepairProgress,
        RepairReport,
        RepairStatus,
        RunView,
    )

app = typer.Typer(no_args_is_help=True, help="Find and mend what differs between the database and an index.")
quarantine = typer.Typer(no_args_is_help=True, help="What could not be mended.")
app.add_typer(quarantine, name="quarantine")

GenerationOption = Annotated[
    str | None, typer.Option(metavar="GENERATION", help="Only this generation; every live one unless given.")
]
CodeOption = Annotated[str | None, typer.Option(metavar="CODE", help="Only those with this error code.")]
IdsArgument = Annotated[
    list[str] | None, typer.Argument(metavar="[ID]...", help="Whole ids of documents.", show_default=False)
]


@app.callback()
def group() -> None:
    """Find and mend what differs between the database and an index."""


@quarantine.callback()
def quarantine_group() -> None:
    """What could not be mended."""


@app.command()
def run(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    generation: GenerationOption = None,
    library: Annotated[str | None, typer.Option(help="Mend only what belongs to this library.")] = None,
    vectors: Annotated[
        bool, typer.Option("--vectors", help="Compare every document with its vector, not only counts and sums.")
    ] = False,
    force: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help=f"Overrule a brake: {', '.join(FORCES)}. Can be given more than once."),
    ] = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare the database with each live index, and mend what differs.

    Documents are written again from the vectors in the database. A repair that would delete much, or whose database seems to be
    an older copy, is refused as a whole. `speakerdb serve` does the same by itself, every ten minutes.
    """
    session = Session.of(ctx, as_json)
    forced = force or []
    if forced and not dry_run and not (why or "").strip():
        raise InvalidInput("To overrule a brake needs a reason.", hint="Give `--why TEXT`; it is kept in the events.")
    with session.open() as db:
        if dry_run:
            plan = db.repairer.plan(
                generation=generation, library=library, vectors=vectors, force=forced,
                on_progress=lambda progress: _tell(session, progress),
            )  # fmt: skip
            session.result(plan, show_plan)
            raise typer.Exit(SafetyStop.exit_code if any(each.refused for each in plan.generations) else 0)
        try:
            with StopSignals() as stop:
                report = db.repairer.run(
                    generation=generation, library=library, vectors=vectors, force=forced, why=why,
                    on_progress=lambda progress: _tell(session, progress), stop=stop,
                )  # fmt: skip
        except SafetyStop as error:
            refused: RepairReport | None = error.details.get("report")
            if refused is not None and not session.json:
                session.show(lambda console: show_report(console, refused))
            raise
    session.result(report, show_report)
    if stop.signum is not None:
        raise typer.Exit(128 + stop.signum)


@app.command()
def status(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """When each live index was last compared, how far the comparison of all vectors is, and what is not mended."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.repairer.status(), _show_status)


@app.command()
def history(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=MAX_COUNT, help="How many.")] = 20,
    generation: GenerationOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What repairs found and did, newest first. Of those in a row that found nothing the newest is kept."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.repairer.history(limit=limit, generation=generation), _show_history)


@quarantine.command("list")
def list_(
    ctx: typer.Context, generation: GenerationOption = None, code: CodeOption = None, as_json: JsonFlag = False
) -> None:
    """Documents that could not be mended, why, and when they are tried again."""
    session = Session.of(ctx, as_json)
    with session.look() as db:
        session.result(db.repairer.quarantine(generation=generation, code=code), _show_quarantine)


@quarantine.command()
def retry(
    ctx: typer.Context,
    ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Everything in quarantine.")] = False,
    generation: GenerationOption = None,
    code: CodeOption = None,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Try them again with the next repair, without waiting for their time; waived ones too."""
    session = Session.of(ctx, as_json)
    chosen = _chosen(ids, code, every=every)
    with session.open() as db:
        count = db.repairer.retry_quarantined(generation=generation, code=code, ids=chosen, why=why)
    session.result({"count": count}, lambda console, _: say(console, f"{_documents(count)} will be tried again."))


@quarantine.command()
def waive(
    ctx: typer.Context,
    why: Annotated[
        str, typer.Option("--why", metavar="TEXT", help="Why they may stay as they are; kept in the events.")
    ],
    ids: IdsArgument = None,
    every: Annotated[bool, typer.Option("--all", help="Everything in quarantine.")] = False,
    generation: GenerationOption = None,
    code: CodeOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let them be as they are: no repair tries them again, and `status` is silent about them."""
    session = Session.of(ctx, as_json)
    chosen = _chosen(ids, code, every=every)
    with session.open() as db:
        count = db.repairer.waive_quarantined(why=why, generation=generation, code=code, ids=chosen)
    session.result({"count": count}, lambda console, _: say(console, f"{_documents(count)} may stay as they are."))


def _chosen(ids: list[str] | None, code: str | None, *, every: bool) -> list[str] | None:
    if not (ids or code or every):
        raise InvalidInput("Say which: ids, `--code`, or `--all`.", hint="See `speakerdb repair quarantine list`.")
    return ids or None


def _documents(count: int) -> str:
    return plural(count, "document")


def _tell(session: Session, progress: RepairProgress) -> None:
    if session.err.is_terminal:
        session.note(f"{progress.generation}: {progress.doing} {progress.count:,}")


def show_plan(console: Console, plan: RepairPlan) -> None:
    """What a repair would do."""
    for each in plan.generations:
        _show_one(console, each, done=None)
    say(console, f"Compared in {plan.seconds:.1f} s; nothing was changed.")


def show_report(console: Console, report: RepairReport) -> None:
    """What a repair did."""
    for each in report.generations:
        _show_one(console, each.plan, done=each.done)
        _show_outcome(console, each)
    say(console, f"It took {report.seconds:.1f} s.")


def _show_one(console: Console, plan: GenerationPlan, *, done: Mapping[str, int] | None) -> None:
    if plan.skipped:
        say(console, f"{plan.generation}: left alone, because {plan.skipped}.")
        return
    if plan.index is None:
        return
    how = "every document was compared" if plan.buckets is None else f"{plural(plan.buckets, 'bucket')} of 256 differ"
    extra = [
        text for count, text in (
            (plan.waiting, f"{plan.waiting:,} wait for the projector"),
            (plan.young, f"{plan.young:,} were just changed"),
            (plan.quarantined, f"{plan.quarantined:,} are in quarantine"),
        ) if count
    ]  # fmt: skip
    say(console, f"{plan.generation}: {plan.rows:,} rows, {how}" + "".join(f", {text}" for text in extra) + ".")
    if plan.found:
        console.print(table(("difference", "documents"), plan.found.items(), right=("documents",)))
        what = "action" if done is None else "action planned"
        console.print(table((what, "documents"), plan.actions.items(), right=("documents",)))
        rows = [
            (v.difference, v.id, v.stated_version, v.index_version, v.action, v.detail) for v in plan.sample
        ]  # fmt: skip
        print_list(console, ("difference", "id", "version in SQL", "in the index", "action", ""), rows)
    elif not plan.refused:
        say(console, "  Nothing to mend.")
    for sentence in plan.aliases:
        say(console, f"  alias: {sentence}")
    for refusal in plan.refused:
        say(console, f"  refused ({refusal.code}): {refusal.message}")


def _show_outcome(console: Console, repair: GenerationRepair) -> None:
    if repair.state == "failed":
        say(console, f"{repair.plan.generation}: failed ({repair.code}): {repair.message}")
    elif repair.done or repair.quarantined:
        done = ", ".join(f"{count:,} {action}" for action, count in repair.done.items()) or "nothing"
        left = f"; {repair.quarantined:,} not mended, in quarantine" if repair.quarantined else ""
        say(console, f"  done: {done}; {plural(repair.written, 'document')} written{left}.")
    if repair.state == "stopped" and repair.message and not repair.plan.skipped:
        say(console, f"  stopped: {repair.message}; the next repair goes on.")


def _show_status(console: Console, found: RepairStatus) -> None:
    for each in found.generations:
        console.print(facts(_health(each)))
    if found.holder is not None:
        say(console, f"{found.holder} repairs now.")


def _health(each: GenerationHealth) -> Iterable[tuple[str, object]]:
    yield "generation", each.generation
    yield "last check", _run(each.last_check)
    yield "last walk", _run(each.last_walk)
    yield "all vectors compared", "not yet" if each.lap_ended_at is None else when(each.lap_ended_at)
    yield "quarantine", f"{each.quarantined:,}" + (f", and {each.waived:,} waived" if each.waived else "")


def _run(run: RunView | None) -> str:
    if run is None:
        return "never"
    found = ", ".join(f"{count:,} {name}" for name, count in run.found.items())
    return f"{when(run.started_at)}, {run.state}" + (f": {found}" if found else "")


def _show_history(console: Console, runs: Sequence[RunView]) -> None:
    if not runs:
        say(console, "Nothing was repaired yet.")
        return
    rows = [
        (run.id, when(run.started_at), run.generation, run.kind, run.who, run.state, _counts(run.found), _counts(run.done),
         run.message or "")
        for run in runs
    ]  # fmt: skip
    print_list(console, ("id", "begun", "generation", "kind", "who", "state", "found", "done", ""), rows, right=("id",))


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _show_quarantine(console: Console, found: Sequence[QuarantineView]) -> None:
    if not found:
        say(console, "Nothing is in quarantine.")
        return
    rows = [
        (one.generation, one.id, one.difference, one.code, one.attempts,
         "waived: " + one.waived_why if one.waived_why else when(one.next_at), one.message)
        for one in found
    ]  # fmt: skip
    columns = ("generation", "id", "difference", "code", "attempts", "tried again", "message")
    print_list(console, columns, rows, right=("attempts",))
