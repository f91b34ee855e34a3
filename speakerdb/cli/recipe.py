"""`speakerdb recipe`: which recipes there are, and what other budgets would do with this library's own voices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from speakerdb.cli.output import cell, clock, facts, plural, table
from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput
from speakerdb.reports.recipes import BudgetResult, OnTrial, RecipeTrial, RecipeView, TrialProgress

app = typer.Typer(no_args_is_help=True, help="Recipes: how much of a speaker's speech is used, and how it is chosen.")

NUMBERS = ("budget", "speech", "network", "cut", "median", "5th percentile", "EER", "same", "different")


@app.callback()
def group() -> None:
    """Recipes: how much of a speaker's speech is used, and how it is chosen."""


@app.command("list")
def list_recipes(ctx: typer.Context, as_json: JsonFlag = False) -> None:
    """Which recipes there are, and which generations of the settings use them."""
    from speakerdb.recipes.listing import views

    session = Session.of(ctx, as_json)
    session.result({"recipes": views(session.settings().known_generations())}, lambda c, v: _show_list(c, v["recipes"]))


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe, or a generation, whose recipe is meant.")],
    settings_for: Annotated[
        str | None,
        typer.Option(
            metavar="GENERATION",
            help="Print the settings of a new generation instead: with the model of this one, and the recipe.",
        ),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(min=1.0, metavar="SECONDS", help="The same recipe with another budget.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Everything a recipe says, who uses it, and how a new generation with it is written down."""
    from speakerdb.recipes.listing import view

    session = Session.of(ctx, as_json)
    known = session.settings().known_generations()
    session.result(view(name, known, budget_seconds=budget, of=settings_for), _show_recipe)


@app.command("try")
def try_recipe(
    ctx: typer.Context,
    budget: Annotated[
        str, typer.Option(metavar="SECONDS,SECONDS,...", help="Seconds of speech for a speaker, to be compared.")
    ] = "10,20,30,60",
    sample: Annotated[int, typer.Option(min=1, max=1000, help="How many speakers are tried.")] = 50,
    generation: Annotated[
        str | None, typer.Option(help="With this generation's model; with that of the one that serves unless given.")
    ] = None,
    library: Annotated[str | None, typer.Option(help="Only with voices of this library.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw it, too: a file that ends in .svg, .png or .pdf.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Measure on this library's own voices what other budgets cost and how good they are, and recommend one.

    A sample of speakers is embedded with each budget and with all their clean speech. Nothing is written to the library.
    """
    session = Session.of(ctx, as_json)
    budgets = _seconds(budget)
    with session.open() as db:
        from speakerdb import plots

        if plot is not None:
            plots.form_of(plot)  # before minutes of work
        with _progress(session) as on_progress:
            trial = db.recipes.try_budgets(
                budgets, speakers=sample, generation=generation, library_name=library, on_progress=on_progress
            )
        if plot is not None:
            drawn = plots.draw_trial(trial, plot)
            session.note(f"drawn into {drawn.path}")
    session.result(trial, show_trial)


def _seconds(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"{text!r} are no seconds.", hint="Give some as `--budget 10,20,30,60`.") from error


@contextmanager
def _progress(session: Session) -> Iterator[OnTrial]:
    """A bar on a terminal; nothing elsewhere."""
    if not session.err.is_terminal:
        yield lambda _: None
        return
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("speakers"),
        TimeElapsedColumn(), console=session.err, transient=True,
    )  # fmt: skip
    task = bar.add_task("loading the model", total=None)

    def show(progress: TrialProgress) -> None:
        told = f"{progress.speech_seconds:,.0f} s of speech"
        bar.update(task, description=told, completed=progress.speakers, total=progress.of)

    with bar:
        yield show


def show_trial(console: Console, trial: RecipeTrial) -> None:
    """The table, what is recommended, and what was left out."""
    say(
        console,
        f"{trial.generation}, recipe {trial.recipe} ({trial.budget_seconds:g} s): {plural(trial.speakers, 'speaker')} of "
        f"{plural(trial.recordings, 'recording')}, in {clock(trial.seconds)}.\n"
        f"{trial.model}: {trial.speed:,.0f} s of speech through the network in a second.",
    )
    console.print(table(NUMBERS, map(_row, trial.budgets), right=NUMBERS))
    limited = f"; {plural(trial.limited, 'speaker')} had more" if trial.limited else ""
    say(
        console,
        "speech, network: seconds for a speaker, on average. cut: speakers that have more speech than the budget; median and "
        f"5th percentile are of their cosine to all clean speech (at most {trial.limit_seconds:g} s of it{limited}).",
    )
    everything = trial.budgets[-1].separation
    if everything is None:
        say(console, f"EER: not measurable, {trial.not_measurable}.")
    else:
        say(
            console,
            f"EER, same, different: equal error rate and mean cosines of {plural(everything.same, 'pair')} of one profile and "
            f"{everything.different:,} of two, of {everything.profiles} profiles.",
        )
    for skipped in trial.skipped:
        say(
            console,
            f"not tried: {plural(skipped.speakers, 'speaker')}, {skipped.code}, for example in {skipped.recording_id}: "
            f"{skipped.message}",
        )
    for notice in trial.notices:
        say(console, f"note: {notice}")
    say(console, _advice(trial))


def _advice(trial: RecipeTrial) -> str:
    recommended = trial.recommendation.budget_seconds
    told = f"recommended: {'nothing' if recommended is None else f'{recommended:g} s'}. {trial.recommendation.reason}"
    if recommended is None:
        return told
    if recommended == trial.budget_seconds:
        return f"{told}\n{trial.generation} has this budget already."
    command = f"speakerdb recipe show {trial.generation} --budget {recommended:g} --settings-for {trial.generation}"
    return f"{told}\nnext: another budget is a new generation and a migration; `{command}` prints its settings."


def _row(result: BudgetResult) -> Sequence[object]:
    def number(value: float | None, form: str) -> str | None:
        return None if value is None else format(value, form)

    found = result.separation
    return (
        "all" if result.budget_seconds is None else f"{result.budget_seconds:g} s",
        f"{result.speech_seconds:.1f} s",
        f"{result.network_seconds:.2f} s",
        None if result.budget_seconds is None else result.cut,
        number(result.agreement, ".3f"),
        number(result.agreement_low, ".3f"),
        number(None if found is None else found.eer, ".1%"),
        number(None if found is None else found.same_cosine, ".2f"),
        number(None if found is None else found.different_cosine, ".2f"),
    )


def _show_list(console: Console, found: Sequence[RecipeView]) -> None:
    rows = [
        (
            each.name, f"{each.budget_seconds:g} s", each.arithmetic, each.digest, ", ".join(each.generations),
            "" if each.named else "of its generations only",
        )
        for each in found
    ]  # fmt: skip
    console.print(table(("recipe", "budget", "arithmetic", "digest", "generations", "note"), rows, right=("budget",)))


def _show_recipe(console: Console, recipe: RecipeView) -> None:
    if recipe.settings is not None:
        say(console, recipe.settings)  # and nothing else, so that it can go into a settings file as it is
        return
    console.print(
        facts(
            [
                ("recipe", recipe.name),
                ("digest", recipe.digest),
                ("budget", f"{recipe.budget_seconds:g} s of speech for a speaker of a recording"),
                (
                    "segments",
                    f"{recipe.segment_target_seconds:g} to {recipe.segment_max_seconds:g} s, at least "
                    f"{recipe.segment_min_seconds:g} s, each inside one turn",
                ),
                ("selection", recipe.selection),
                ("pooling", recipe.pooling),
                ("arithmetic", recipe.arithmetic),
                ("embedded from", f"{recipe.minimum_seconds:g} s"),
                ("accepted from", f"{recipe.confident_seconds:g} s"),
                ("used by", cell(", ".join(recipe.generations))),
            ]
        )
    )
