"""A process that takes a lease and stands in the middle of a transaction: `python leases_process.py JSON`.

It prints `inside` when it has written and not committed, goes on with the next line of its input, and prints what became of it.
"""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

from speakerdb.catalog import journal
from speakerdb.catalog.catalog import Catalog
from speakerdb.errors import SpeakerDBError


def main(url: str, folder: str, seconds: float) -> None:
    with closing(Catalog(url, locks=Path(folder), lease_seconds=seconds)) as catalog:
        try:
            lease = catalog.acquire("work")
            with catalog.job(lease) as tx:
                journal.record(tx, "items-retried", "stopped", catalog.now(), entity_id="work", epoch=lease.epoch)
                print("inside", flush=True)
                sys.stdin.readline()
        except SpeakerDBError as error:
            print(error.code, flush=True)
        else:
            print("committed", flush=True)


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
