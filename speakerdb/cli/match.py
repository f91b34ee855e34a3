"""`speakerdb match`: who is this voice?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from speakerdb.cli.session import JsonFlag, Session
from speakerdb.cli.show import show_match
from speakerdb.errors import InvalidInput
from speakerdb.types import FloatArray, Kind


def read_vector(path: Path) -> FloatArray:
    """A vector from a NumPy file or a JSON list, as 1-D float32. `InvalidInput` on anything else."""
    try:
        raw = (
            np.load(path, allow_pickle=False) if path.suffix.lower() == ".npy" else json.loads(path.read_text("utf-8"))
        )
        vector = np.asarray(raw, dtype=np.float32)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise InvalidInput(
            f"{path} holds no vector: {error}.", hint="Give a .npy file, or a JSON list of numbers."
        ) from error
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise InvalidInput(
            f"{path} holds no vector: its shape is {vector.shape}, and all its numbers must be finite.",
            hint="One dimension is expected, for example (256,).",
        )
    return vector


def match(
    ctx: typer.Context,
    speaker: Annotated[str | None, typer.Option(metavar="ID", help="Ask about a speaker.")] = None,
    profile: Annotated[str | None, typer.Option(metavar="ID", help="Ask about a profile.")] = None,
    clip: Annotated[Path | None, typer.Option(metavar="FILE", help="Ask about the voice in an audio file.")] = None,
    vector: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ask about a vector: .npy, or a JSON list.")
    ] = None,
    k: Annotated[int, typer.Option("-k", "--top", min=1, metavar="N", help="How many answers.")] = 10,
    library: Annotated[str | None, typer.Option(help="Only in this library.")] = None,
    kind: Annotated[Kind, typer.Option(help="What to find.")] = Kind.SPEAKER,
    generation: Annotated[
        str | None, typer.Option(help="Ask in this generation instead of the one that serves.")
    ] = None,
    same_recording: Annotated[
        bool, typer.Option("--same-recording", help="Also find voices of the same recording.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Rank the voices most like a speaker, a profile, a clip or a vector."""
    session = Session.of(ctx, as_json)
    if sum(given is not None for given in (speaker, profile, clip, vector)) != 1:
        raise InvalidInput(
            "Ask about exactly one thing.", hint="Give one of `--speaker`, `--profile`, `--clip`, `--vector`."
        )
    query = None if vector is None else read_vector(vector)
    with session.open() as db:
        result = db.match(
            speaker=speaker,
            profile=profile,
            clip=clip,
            vector=query,
            k=k,
            kind=kind,
            generation=generation,
            library=library,
            same_recording=same_recording,
        )
    session.result(result, show_match)
