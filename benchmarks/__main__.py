"""`python -m benchmarks`: measure, print a table, keep the result in `benchmarks/results/latest.json`."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from speakerdb.testing.servers import given

# One thread in NumPy's BLAS and in torch unless the caller chose another number: on a machine that does other things too,
# threads that wait for each other make both sides of a comparison many times slower, at random. Set before the first
# import of NumPy, which reads it once.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# What a shell has set for a library of its own must not reach the ones made here. Servers may be named, though.
given.take()
for _variable in [name for name in os.environ if name.startswith("SPEAKERDB_")]:
    del os.environ[_variable]

LATEST = Path(__file__).resolve().parent / "results" / "latest.json"
PARTS = (
    "orchestration",
    "memory",
    "intake",
    "search",
    "sound",
    "extraction",
    "diarization",
    "serving",
    "repair",
    "servers",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: seconds instead of minutes; kept nowhere unless --out"
    )
    parser.add_argument("--only", action="append", choices=PARTS, help="a part, instead of all; can be given again")
    parser.add_argument("--out", type=Path, help="the results file (benchmarks/results/latest.json after a full run)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where the part `extraction` computes")
    given = parser.parse_args()
    full = not given.quick and not given.only
    out = given.out or (LATEST if full else None)

    from benchmarks import page, report
    from benchmarks.run import run

    with tempfile.TemporaryDirectory(prefix="speakerdb-bench-") as folder:
        kept = run(Path(folder), quick=given.quick, parts=given.only or PARTS, device=given.device)
    report.show(kept)
    if out is not None:
        report.write(out, kept)
        report.say(f"written to {out.name}")
        if out.resolve().parent == LATEST.parent:
            page.main()


if __name__ == "__main__":
    main()
