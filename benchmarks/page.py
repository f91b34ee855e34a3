"""The tables of `docs/benchmarks.md`, from `benchmarks/results`: `python -m benchmarks.page`; a run that is kept does it too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
_PLACE = re.compile(r"(<!-- from the results: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOTHING = "Nothing is kept yet: run `make bench`.\n"


def written(page: str, kept: Sequence[Mapping[str, Any]]) -> str:
    """The page with its tables made anew from results files."""
    parts = {"extraction": extraction(kept), "everything": "\n".join(everything(kept)) or NOTHING}

    def filled(place: re.Match[str]) -> str:
        return f"{place[1]}\n{parts[place[2]]}\n{place[3]}"

    return _PLACE.sub(filled, page)


def results() -> list[Mapping[str, Any]]:
    """What is kept of benchmarks: the last full run first, then runs of single parts, by name."""
    single = (path for pattern in ("extraction-*.json", "part-*.json") for path in sorted(RESULTS.glob(pattern)))
    paths = [RESULTS / "latest.json", *single]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def extraction(kept: Sequence[Mapping[str, Any]]) -> str:
    """One row a machine and back end: what an hour costs, and how that compares."""
    rows = [row for each in kept if "extraction" in each["machine"] for row in _back_ends(each)]
    columns = (
        "back end", "seconds", "cold", "of it the network", "than get_embeddings", "than turn by turn",
        "than the five longest", "than torch singly", "machine", "versions", "day",
    )  # fmt: skip
    return _table(columns, rows) if rows else NOTHING


def everything(kept: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Every row of every results file."""
    for each in kept:
        about = each["machine"]
        yield f"### {_machine(about)}, {about['day']}\n"
        yield f"{_versions(about)}. The load was {about['load_at_start']} when it began.\n"
        holds = {True: "yes", False: "**no**", None: ""}
        rows = ((r["name"], f"{r['value']:,g}", r["unit"], r["goal"] or "", holds[r["holds"]]) for r in each["rows"])
        yield _table(("what", "value", "unit", "goal", "holds"), rows)


def _back_ends(each: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    about = each["machine"]
    values = {row["name"]: row["value"] for row in each["rows"]}
    for name in about["extraction"]["back_ends"]:
        warm = next(
            (key for key in values if key.startswith("extraction of") and key.endswith(f", {name}, warm")), None
        )
        if warm is None:
            continue
        over = [
            next((value for key, value in values.items() if key.startswith(f"{name} over {other}")), None)
            for other in ("pyannote", "turn by turn", "the five longest", "torch")
        ]
        cold, share = values[warm.removesuffix("warm") + "cold"], values[f"the network's share of it, {name}"]
        length = warm.removeprefix("extraction of ").split(",")[0]
        yield (
            f"{name} ({length})", f"{values[warm]:.2f}", f"{cold:.1f}", f"{share:.0%}",
            *("" if value is None else f"{float(f'{value:.3g}'):,g} times" for value in over),
            _machine(about), _versions(about), about["day"],
        )  # fmt: skip


def _machine(about: Mapping[str, Any]) -> str:
    found = about.get("extraction", {})
    device = found.get("device", "cpu")
    gpu = "" if device == "cpu" else f"{device}, "
    features = [name for name in ("amx_bf16", "avx512f", "avx2") if name in found.get("features", ())][:1]
    return f"{gpu}{about['cpu']}{''.join(f' ({name})' for name in features)}, {about['cores']} cores"


def _versions(about: Mapping[str, Any]) -> str:
    versions = {"Python": about["python"], "NumPy": about["numpy"]} | about.get("extraction", {}).get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def main() -> None:
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), results()), encoding="utf-8")


if __name__ == "__main__":
    main()
