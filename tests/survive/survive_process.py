"""Another process with the same library, as on another machine: `python survive_process.py JSON`.

It prints `taken` when it has taken its first recording, goes on when the file `gate` is there, and prints at its end what
became of it as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from survive_kit import Place

from speakerdb.errors import SpeakerDBError
from speakerdb.extraction.extract import Extracted, Task
from speakerdb.testing.factories import FakeExecutor, fake_extract


def main(given: dict[str, str]) -> int:
    """Works on the library until nothing is left; the exit code of the command line."""
    gate = Path(given["gate"])

    def answer(task: Task) -> Extracted:
        if not gate.exists():
            print("taken", flush=True)
            while not gate.exists():
                time.sleep(0.02)
        return fake_extract(task)

    place = Place(Path(given["folder"]), given["database"], given["search"], given["prefix"])
    try:
        db = place.open(folder="elsewhere", executor=FakeExecutor(answer), lease_seconds=float(given["lease_seconds"]))
        report = db.work()
    except SpeakerDBError as error:
        print(json.dumps({"code": error.code, "hint": error.hint}), flush=True)
        return error.exit_code
    finally:
        place.close()
    print(json.dumps({"code": None, "done": report.recordings_done}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
