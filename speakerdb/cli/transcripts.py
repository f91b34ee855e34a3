"""`speakerdb label`, and `speakerdb transcripts`: what was said, by whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from speakerdb.cli.output import clock, plural, print_list, table, when
from speakerdb.cli.session import MAX_COUNT, JsonFlag, Session, WhyOption, YesFlag
from speakerdb.cli.show import say
from speakerdb.errors import InvalidInput

if TYPE_CHECKING:
    from speakerdb.reports.transcripts import TranscriptReport, TranscriptView, WordCount, WordsReport

app = typer.Typer(no_args_is_help=True, help="Transcripts of recordings: what was said, by whom.")

Recording = Annotated[
    str, typer.Argument(metavar="RECORDING", help="A recording's id, a unique beginning, or the path of its file.")
]
SPEAKERS = ("speaker", "called", "words", "pieces", "profile")
LISTED = ("recording", "library", "language", "segments", "words", "since", "by")
_OUTCOMES = {
    "added": "kept",
    "changed": "kept in the place of the one before",
    "unchanged": "kept already, exactly so",
    "not-kept": "not kept",
}


class Form(StrEnum):
    """How a transcript is written."""

    json = "json"
    srt = "srt"
    vtt = "vtt"
    text = "text"


def label(
    ctx: typer.Context,
    transcript: Annotated[
        Path, typer.Argument(metavar="FILE", help="JSON of WhisperX, faster-whisper or WhisperLive; WebVTT; SRT.")
    ],
    recording: Annotated[
        str, typer.Option(metavar="RECORDING", help="A recording's id, a unique beginning, or the path of its file.")
    ],
    output_json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as JSON.")] = None,
    output_srt: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as SRT subtitles.")] = None,
    output_vtt: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it as WebVTT subtitles.")] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With `--output-json`: each word with its time and its speaker too.")
    ] = False,
    no_keep: Annotated[
        bool, typer.Option("--no-keep", help="Write the files, and keep nothing of the text in the library.")
    ] = False,
    why: WhyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Say whose words a transcript's are, by a recording's turns, and keep it.

    Segments are split where the speaker changes. A word that lies in nobody's turn is nobody's. Giving the same transcript
    again changes nothing.
    """
    session = Session.of(ctx, as_json)
    from speakerdb.diarizing import write_whole
    from speakerdb.people.naming import checked_why
    from speakerdb.transcripts import read_text

    why = checked_why(why)
    text = read_text(transcript)
    asked = [(output_json, Form.json), (output_srt, Form.srt), (output_vtt, Form.vtt)]
    files = [(path, form) for path, form in asked if path is not None]
    _check_places([path for path, _ in files])
    with session.open() as db:
        shown = db.transcripts.label(recording, text, transcript.suffix)
        write_whole(
            [(path, shown.written(form.value, words=words and form is Form.json).encode()) for path, form in files]
        )
        if not no_keep:
            shown = db.transcripts.keep(shown, why=why)
    written = [str(path) for path, _ in files]
    if session.json:
        session.result({"transcript": shown.report, "written": written}, lambda *_: None)
        return
    session.show(lambda console: _show_report(console, shown.report, written))


@app.command()
def show(
    ctx: typer.Context,
    recording: Recording,
    form: Annotated[Form, typer.Option("--format", help="How it is written.")] = Form.text,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there, and not to the screen.")] = None,
    words: Annotated[
        bool, typer.Option("--words", help="With `--format json`: each word with its time and its speaker too.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show a recording's transcript, with the names and turns of now. `--json` is `--format json` on standard output."""
    session = Session.of(ctx, as_json)
    from speakerdb.diarizing import write_whole

    _check_places([] if output is None else [output])
    with session.open() as db:
        shown = db.transcripts.show(recording)
    if output is not None:
        write_whole([(output, shown.written(form.value, words=words).encode())])
        session.result({"written": str(output)}, lambda console, _: say(console, f"written: {output}"))
        return
    text = shown.written("json" if session.json else form.value, words=words)
    if session.stdout.isatty() and not session.json:
        say(session.out, text.removesuffix("\n"))  # no control character of a transcriber reaches the terminal
    else:
        session.stdout.write(text)
        session.stdout.flush()


@app.command()
def remove(
    ctx: typer.Context, recording: Recording, yes: YesFlag = False, why: WhyOption = None, as_json: JsonFlag = False
) -> None:
    """Forget what was said in a recording. The recording stays. Asks first."""
    session = Session.of(ctx, as_json)
    from speakerdb.people.naming import checked_why

    why = checked_why(why)
    with session.open() as db:
        words = db.transcripts.show(recording).report.words
        session.confirm(f"Forget the transcript of {recording} ({plural(words, 'word')}), for good?", yes=yes)
        removed = db.transcripts.remove(recording, why=why)
    session.result(
        removed,
        lambda console, it: say(console, f"Removed the transcript of {it.recording_id}, {plural(it.words, 'word')}."),
    )


@app.command("list")
def list_transcripts(
    ctx: typer.Context,
    library: Annotated[str | None, typer.Option(help="Only of this library.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_COUNT - 1, metavar="N", help="At most N.")] = 1000,
    as_json: JsonFlag = False,
) -> None:
    """List the recordings that have a transcript, by id."""
    session = Session.of(ctx, as_json)
    with session.open() as db:
        part = db.transcripts.page(library_name=library, limit=limit)
    session.result(part.items, _show_list)
    if part.place is not None:
        session.note(f"There are more than {limit:,}; ask for more with `--limit`.")


@app.command()
def words(
    ctx: typer.Context,
    speaker: Annotated[str | None, typer.Option(metavar="ID", help="Of this speaker.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Of this profile, in all its recordings.")] = None,
    library: Annotated[str | None, typer.Option(metavar="NAME", help="Of everybody in this library.")] = None,
    top: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="So many words, and phrases.")] = 20,
    phrases: Annotated[
        int | None, typer.Option(min=2, max=4, metavar="N", help="Phrases of N words too, 2 to 4.")
    ] = None,
    fillers: Annotated[
        str | None,
        typer.Option(
            metavar="WORD,WORD,...", help="Words or phrases that count as fillers, instead of the English ones."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Count words where there are transcripts: the most frequent ones, phrases, fillers, and words a minute."""
    session = Session.of(ctx, as_json)
    from speakerdb.transcripts import Whose

    given = None if fillers is None else [each for each in fillers.split(",") if each.strip()]
    with session.open() as db:
        report = db.transcripts.words(Whose(speaker, profile, library), top=top, phrase_length=phrases, fillers=given)
    session.result(report, _show_words)


def _check_places(paths: Sequence[Path]) -> None:
    """`InvalidInput` for a place that cannot be replaced as a whole, and for two files at one."""
    for path in paths:
        if path.exists() and not path.is_file():
            raise InvalidInput(f"{path} is there and is no file.", hint="Give the name of a file.")
    if len({path.absolute() for path in paths}) < len(paths):
        raise InvalidInput("Two forms cannot be written to one file.", hint="Give each a name of its own.")


def _show_report(console: Console, report: TranscriptReport, written: Iterable[str]) -> None:
    language = "" if report.language is None else f", {report.language}"
    split = "" if report.pieces == report.segments else f" in {report.pieces:,} pieces"
    say(
        console,
        f"{report.recording_id}: {plural(report.segments, 'segment')}{split}, {plural(report.words, 'word')}{language};"
        f" {_OUTCOMES[report.outcome]}",
    )
    rows = [(each.label, each.called, each.words, each.pieces, each.profile_id) for each in report.speakers]
    console.print(table(SPEAKERS, rows, right=("words", "pieces")))
    if report.outside:
        say(console, f"note: {plural(report.outside, 'word')} lie in nobody's turn, and are nobody's")
    if report.skipped:
        say(console, f"note: {plural(report.skipped, 'segment')} without text left out")
    for path in written:
        say(console, f"written: {path}")


def _show_list(console: Console, views: Iterable[TranscriptView]) -> None:
    rows = [
        (one.recording_id, one.library, one.language, one.segments, one.words, when(one.created_at), one.who)
        for one in views
    ]
    if not rows:
        say(console, "No recording has a transcript.")
        return
    print_list(console, LISTED, rows, right=("segments", "words"))


def _show_words(console: Console, report: WordsReport) -> None:
    whose = {"all": "everybody", "library": f"the library {report.name}"}.get(report.of, f"{report.name} ({report.id})")
    rate = "" if report.words_per_minute is None else f", {report.words_per_minute:.0f} words a minute"
    say(
        console,
        f"{whose}: {plural(report.words, 'word')} in {plural(report.recordings, 'recording')} with a transcript,"
        f" {clock(report.seconds)} of talk{rate}",
    )
    if report.outside:
        say(console, f"note: {report.outside:,} of them are nobody's, and are in no rate")
    for title, counts in (("words", report.top), (f"phrases of {report.phrase_length}", report.phrases)):
        if counts:
            console.print(table((title, "count"), _rows(counts), right=("count",)))
    source = "the built-in English list" if report.fillers_from == "default" else "your list"
    found = ", ".join(f"{each.text} {each.count:,}" for each in report.fillers) or "none"
    say(console, f"fillers, from {source}: {found}")
    if report.may_be_missing:
        say(
            console,
            f"note: there are too many different words to hold at once; what was said up to {report.may_be_missing:,} times"
            " may be missing",
        )


def _rows(counts: Iterable[WordCount]) -> list[tuple[str, int]]:
    return [(each.text, each.count) for each in counts]
