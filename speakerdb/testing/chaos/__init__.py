"""Real processes on one library, and somebody who kills, stops and cheats them: `python -m speakerdb.testing.chaos`.

`run.Chaos` starts services and clients (`agents`), gives each a fate by the seed (`fates`), watches SQL and the index by plain
reads (`looking`, `audit`), lets all settle at the end (`settling`) and judges what `history_check` and `invariants` say.
"""
