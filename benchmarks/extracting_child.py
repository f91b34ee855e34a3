"""The processes in which extraction is measured: `python -m benchmarks.extracting_child measure|cold|one FOLDER`.

What is asked lies in the folder as `asked.json`, the answer as `answered.json`: models' converters print what they like.
"""

from __future__ import annotations

import time

_BEGUN = time.perf_counter()  # before anything of speakerdb is imported

import json  # noqa: E402
import sys  # noqa: E402
from collections import defaultdict  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import asdict  # noqa: E402
from importlib.metadata import version  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from benchmarks import libraries  # noqa: E402
from benchmarks.child import resident  # noqa: E402
from benchmarks.report import say  # noqa: E402
from benchmarks.talk import Talk, record  # noqa: E402
from benchmarks.ways import WESPEAKER, Way, old_generation, ways  # noqa: E402
from speakerdb.extraction.extract import Extracted, Together, extract_together  # noqa: E402
from speakerdb.models.processor import this_machine, threads  # noqa: E402
from speakerdb.service import SpeakerDB  # noqa: E402
from speakerdb.settings import ExtractorSettings, GenerationSettings, ModelSettings, Settings  # noqa: E402
from speakerdb.types import Embedding  # noqa: E402

SHORT_SECONDS = 600
"""Of the recordings that are counted: longer ones would cost the same."""


def measure(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that is measured warm: back ends and others in turns, lengths, recordings, one more speaker."""
    from benchmarks.others import Others, decoder

    device, rounds = asked["device"], asked["rounds"]
    talk = recording(folder, asked["seconds"])
    found = ways(folder / "models", device, talk)
    others = Others(WESPEAKER / "pytorch_model.bin", device)
    first = {way.name: way.extract(talk) for way in found}  # a first call compiles and fills caches
    taken: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    five, singly = [], []
    for number in range(rounds):
        for way in found:
            taken[way.name].append(timed(way, talk))
        five.append(others.five_longest(talk)[0])
        singly.append(others.one_at_a_time(talk, found[0].generation.recipe))
        say(
            f"round {number + 1} of {rounds}: { {name: round(each[-1]['seconds'], 2) for name, each in taken.items()} }"
        )
    efforts = {
        "pyannote's get_embeddings at batch 1": others.stage(talk, asked["stage_seconds"]),
        "turn by turn through Inference": others.turn_by_turn(talk, asked["sampled_turns"]),
        f"the five longest turns of each, whole, {decoder()}": sorted(five, key=lambda each: each.seconds)[rounds // 2],
        "torch, one segment at a time": sorted(singly, key=lambda each: each.seconds)[rounds // 2],
    }
    say(f"others: {efforts}")
    best = min((way for way in found if way.precision == "float"), key=lambda way: _middle(taken[way.name]))
    kept = {
        way.name: {
            "kind": way.kind,
            "precision": way.precision,
            "told": first[way.name].model.rpartition("(not pinned), ")[2],  # before it stands where the checkpoint lies
            "rounds": taken[way.name],
            "memory": memory_of_device(way, talk),
            "cosine": agreement(first[way.name], first[found[0].name]),
        }
        for way in found
    }
    return {
        "about": about(device, talk, kept),
        "ways": kept,
        "others": {name: asdict(effort) for name, effort in efforts.items()},
        "lengths": by_length(folder, best, asked["lengths"], rounds),
        "runs": by_count(folder, best, asked["recordings"]),
        "one_more": one_more(folder, best, talk, asked["people"], rounds),
    }


def cold(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """One extraction in a process that was started for it: seconds from its start to centroids, and of loading;
    its peak of memory in MiB."""
    talk = recording(folder, asked["seconds"])
    (way,) = (each for each in ways(folder / "models", asked["device"], talk) if each.name == asked["way"])
    done = way.extract(talk)
    return {"seconds": time.perf_counter() - _BEGUN, "load": done.work.load_time, "memory": resident("VmHWM")}


def one(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """One more speaker, embedded in both generations and matched, in a process that was started for it."""
    talk = recording(folder, asked["seconds"])
    (way,) = (each for each in ways(folder / "models", asked["device"], talk) if each.name == asked["way"])
    with SpeakerDB.open(libraries.settings(folder / "people"), executor=libraries.null_executor()) as db:
        match_one(db, way, talk, both=True)
    return {"seconds": time.perf_counter() - _BEGUN}


def recording(folder: Path, seconds: int) -> Talk:
    """A conversation of that length; it is made once."""
    return record(folder / f"talk-{seconds}.mp3", seconds)


def timed(way: Way, talk: Talk) -> dict[str, float]:
    """One extraction: seconds by the clock, what of them the network and the decoder had, and what passed the network."""
    begun = time.perf_counter()
    done = way.extract(talk)
    taken = time.perf_counter() - begun
    assert all(isinstance(each, Embedding) for each in done.results.values())
    work = done.work
    return {
        "seconds": taken,
        "network": work.network_time,
        "decode": work.decode_time,
        "forwards": work.forwards,
        "speech": work.embedded_seconds,
    }


def by_length(folder: Path, way: Way, lengths: Sequence[int], rounds: int) -> dict[int, list[float]]:
    """Seconds for recordings of each length, in turns."""
    talks = [recording(folder, seconds) for seconds in lengths]
    taken: dict[int, list[float]] = {seconds: [] for seconds in lengths}
    for _ in range(rounds):
        for talk in talks:
            taken[int(talk.seconds)].append(timed(way, talk)["seconds"])
    return taken


def by_count(folder: Path, way: Way, counts: Sequence[int]) -> dict[int, list[float]]:
    """Seconds for so many recordings through a library's queue and its workers, which hold the model already."""
    talk = recording(folder, min(SHORT_SECONDS, max(counts) * SHORT_SECONDS))
    taken: dict[int, list[float]] = {count: [] for count in counts}
    with SpeakerDB.open(settings(folder / "counted", way)) as db:
        for number, count in enumerate((db.settings.workers, *counts)):
            for each in range(count):
                db.add(copy_of(talk, folder, number * 1000 + each), talk.turns)
            begun = time.perf_counter()
            report = db.work()
            assert report.recordings_done == count, report.errors
            if number:  # the first ones loaded the model
                taken[count].append(time.perf_counter() - begun)
    return taken


def copy_of(talk: Talk, folder: Path, number: int) -> Path:
    """The same sound in another file: its tag tells them apart."""
    path = folder / "counted" / f"{number}.mp3"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(talk.path.read_bytes() + b"TAG" + f"{number}".encode().ljust(125, b"\0"))
    return path


def settings(folder: Path, way: Way) -> Settings:
    """A library that serves the stand-in of v4 with a back end."""
    load = way.load
    return Settings(
        data_dir=folder / "data",
        serving="v4",
        generations={"v4": GenerationSettings(model=way.generation.model.id, sources=(str(WESPEAKER),))},
        extractor=ExtractorSettings(backend=load.backend, precision="half" if load.half else "float32"),
        models=ModelSettings(folder=load.folder, offline=True),
        device=load.device,
        allow_unknown_checkpoints=True,
        disk_floor_mb=0,
    )


def one_more(folder: Path, way: Way, talk: Talk, people: int, rounds: int) -> dict[str, dict[str, float]]:
    """A speaker of a recording whose others are known: seconds to embed it and to find who it is among `people`."""
    with SpeakerDB.open(libraries.settings(folder / "people"), executor=libraries.null_executor()) as db:
        libraries.add_embedded(db, libraries.voices(people))
        found = {}
        for both, name in ((False, "in v4"), (True, "in v3 and v4")):
            match_one(db, way, talk, both=both)
            taken = [match_one(db, way, talk, both=both) for _ in range(rounds)]
            found[f"embedded {name} and matched among {people:,}, warm"] = {"seconds": sorted(taken)[rounds // 2]}
    return found


def match_one(db: SpeakerDB, way: Way, talk: Talk, *, both: bool) -> float:
    """Seconds that it takes."""
    turns = tuple(turn for turn in talk.turns if turn.speaker == talk.turns[-1].speaker)
    begun = time.perf_counter()
    tasks = [way.task(talk, turns)] + ([way.task(talk, turns, old_generation())] if both else [])
    (new, *_) = answers = extract_together(Together(tuple(tasks)))
    assert all(isinstance(answer, Extracted) for answer in answers), answers
    assert isinstance(new, Extracted)
    (embedding,) = new.results.values()
    assert isinstance(embedding, Embedding)
    assert len(db.match(vector=embedding.vector, k=10).matches) == 10
    return time.perf_counter() - begun


def agreement(one: Extracted, other: Extracted) -> float:
    """The lowest cosine between the centroids of a speaker that two back ends give."""
    pairs = [(one.results[speaker], other.results[speaker]) for speaker in one.results]
    return min(float(a.vector @ b.vector) for a, b in pairs if isinstance(a, Embedding) and isinstance(b, Embedding))


def memory_of_device(way: Way, talk: Talk) -> float | None:
    """MiB of the GPU's memory at most during one extraction; None where there is no GPU."""
    if way.kind != "cuda":
        return None
    import torch

    torch.cuda.reset_peak_memory_stats()
    way.extract(talk)
    return float(torch.cuda.max_memory_allocated() / 2**20)


def about(device: str, talk: Talk, kept: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What the numbers depend on."""
    gpu = None
    if device != "cpu":
        import torch

        gpu = torch.cuda.get_device_name(0)
    return {
        "device": device if gpu is None else gpu,
        "threads": threads(),
        "features": list(this_machine().features),
        "turns": len(talk.turns),
        "turn_seconds": round(sum(turn.end - turn.start for turn in talk.turns)),
        "versions": {name: version(name) for name in ("torch", "pyannote.audio", "openvino", "av")},
        "back_ends": {name: way["told"] for name, way in kept.items()},
    }


def _middle(taken: Sequence[dict[str, float]]) -> float:
    return sorted(each["seconds"] for each in taken)[len(taken) // 2]


if __name__ == "__main__":
    place = Path(sys.argv[2])
    answer = {"measure": measure, "cold": cold, "one": one}[sys.argv[1]](
        place, json.loads((place / "asked.json").read_text())
    )
    (place / "answered.json").write_text(json.dumps(answer))
