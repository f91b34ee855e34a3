"""The kinds of events: what is written into the audit trail. A kind is a static name; what varies is data.

An event holds when (microseconds since the epoch), who, why (where a person said it), the kind, the migration and the
entity it is about, and data. Events are only ever added.
"""

from __future__ import annotations

from collections.abc import Mapping

KINDS: Mapping[str, str] = {
    # What the library holds
    "recording-added": "A recording came in. Data: `turns`.",
    "recording-changed": "A recording's turns or its sound changed. Data: `turns`; `gone`: the speakers whose label is gone;"
    " `lost`: their names and profiles.",
    "recording-diarized": "A diarizer found a recording's turns. Data: `turns`, `speakers`, how many; `mapped`, how many speakers"
    " were there before; `gone` and `lost` as above; `diarizer`.",
    "diarization-asked": "Recordings were queued to be diarized again. Data: `count`; `library`, where all of one were;"
    " `asked`, what the diarizer is told.",
    "assignments-kept": "Recordings that were to be diarized again, or could not be, stay as they are. Data: `count`; `library`,"
    " where it was said of all of one.",
    "assignments-reverted": "A recording's turns and speakers are again as they were before they were replaced. Data: `set`, the"
    " number of what came back; `kept_as`, that of what stood there; `turns`; `names`: those of ``now`` or of ``then``; `back`,"
    " the speakers that came back; `gone` and `lost` as above.",
    "recording-removed": "A recording was removed, with its voices. Data: `speakers`, how many. No name is kept.",
    "recording-relocated": "A recording's file has another path now. Data: `old`, `new`.",
    "media-accepted": "A file that had changed was taken as the recording's sound. Data: `seconds`.",
    "file-uploaded": "A file came in over HTTP. Data: `size`, in bytes; `sha256`. No name is kept.",
    "upload-removed": "An uploaded file that no recording had was removed. Data: `size`, in bytes. No name is kept.",
    "transcript-kept": "What was said in a recording was given, for the first time or anew. Data: `segments`, `words`, how many;"
    " `outcome`. No word of it is kept here.",
    "transcript-removed": "What was said in a recording was forgotten. Data: `words`, how many.",
    "library-brought-in": "A run of `add` over folders or manifests came to its end. Data: counts by outcome.",
    # People
    "speaker-renamed": "A speaker got another name, or lost it. Data: `old`, `new`.",
    "speaker-assigned": "A speaker was put into a profile, or taken out of one. Data: `old`, `new`, ids of profiles.",
    "speaker-split": "Turns of a speaker became a new speaker of the same recording. Data: `new`, the new speaker; `label`;"
    " `turns`, how many; `recording`; `digest`, that of the recording's turns after it; `asked`, what chose the turns.",
    "profile-created": "A profile was made. Data: `name`.",
    "profile-deleted": "A profile that nothing used was removed. Data: `name`, `library`.",
    "profile-renamed": "A profile got another name. Data: `old`, `new`.",
    "profiles-merged": "Two profiles became one. Data: `name`; `into`; `speakers`, the members that moved; `forwarded`, the"
    " profiles that had been merged into it before.",
    "change-undone": "One of the changes above was taken back. Data: `event`, the id of the event that was undone; `undone`,"
    " its kind.",
    # Work
    "items-retried": "Failed recordings were queued again. Data: `count`, and what chose them.",
    "item-waived": "A recording may be missing from a migration's target, on a person's word. Data: `code`.",
    # Migrations
    "migration-started": "A migration began. Data: `source`, `target`, `queued`, `reused`; `to_diarize`, how many recordings"
    " are diarized again first.",
    "part-first": "A part of what a migration has queued goes before the rest. Data: `count`, and `share`, `library` or"
    " `listed` (how many).",
    "migration-paused": "Its queued recordings stay in the queue. Why is the reason that was given.",
    "migration-resumed": "A paused migration goes on.",
    "swap-announced": "The intention to move the alias was written down. Data: `intention`, `entering`, `leaving`.",
    "migration-finalized": "The target serves. Data: `resolved`: whether another process's swap was decided.",
    "migration-running": "An announced swap was seen not to have happened. Data: `resolved`.",
    "migration-rolled-back": "The source serves again.",
    "migration-cancelled": "It was ended before its swap.",
    "migration-retired": "The roll-back period ended.",
    "rollback-ending": "The roll-back period ends soon, or is over; once a day. Data: `target`, `ends_at`, `days_left` (below 0"
    " when it is over). Retire the migration, or roll it back before its source is dropped.",
    "vectors-purged": "A retired generation's vectors were deleted from SQL. Data: `generation`.",
    # Index and database
    "index-rebuilt": "An index was built again from SQL beside the old one and took its place. Data: `generation`, `index`,"
    " `documents`, `alias_moved`.",
    "index-ahead": "An index was found to hold newer documents than SQL: the database is an older copy. Data: `newest`, the"
    " highest version in the index.",
    "restoration-accepted": "The database is the right one although the index was ahead of it, on a person's word (`repair run"
    " --force restored`), and the index was found equal to it. Data: `generation`.",
    "repair-done": "A repair changed something. Data: `generation`, `found` and `done`, how many of each kind; `forced`.",
    "repair-refused": "A repair would have done what could destroy something, and did nothing. Data: `generation`, `code`,"
    " `found`.",
    "quarantined": "Documents that a repair could not mend are left alone for a while. Data: `generation`, `count`, `codes`.",
    "quarantine-retried": "What was in quarantine is tried again at once. Data: `count`.",
    "quarantine-waived": "What cannot be mended may stay as it is, on a person's word. Data: `count`.",
    "index-imported": "The vectors of an index were read into the database. Data: `index`; `recipe`, the mark of its vectors;"
    " `documents`, `imported`, `updated`; `refused`, by reason.",
    "adoption-begun": "The legacy index is about to be blocked for writing and taken over. Data: `index`, `identity`.",
    "index-adopted": "The alias has taken the legacy index's place. Data: `index`, what it names; `copy`, the copy of the old"
    " index.",
    "adoption-given-up": "A take-over ended without its swap, and the legacy index takes writes again. Data: `index`.",
    # Access
    "token-created": "A key to the HTTP API was made. Data: `name`, `role`, `expires_at`. The secret is nowhere.",
    "token-revoked": "A key to the HTTP API was taken back. Data: `name`, `role`.",
    # Service
    "alias-set": "A person let the alias name another index. Written right before it. Data: `index`; `left`, what it named;"
    " `forced`: although the index did not equal SQL.",
    "alias-not-set": "What was written down as set did not happen. Data: `index`.",
    "events-cleaned": "Old events about routine were deleted, as `schedule.keep_events_days` says. Data: `count`; `before`,"
    " an instant.",
    "lease-broken": "A person took a lease away from its holder. Data: `holder`; `epoch`, under which it held it.",
    "setting-changed": "A setting that every process follows was changed. Data: `name`; `library`, a name, or None for all;"
    " `old`, `new`, each None where it is not set.",
    "backup-made": "A copy of the database was written. Data: `path`.",
    "library-restored": "The database was put back from a backup. Data: `path`, `made_at`.",
}

ROUTINE = (
    "recording-added",
    "recording-relocated",
    "file-uploaded",
    "library-brought-in",
    "items-retried",
    "backup-made",
    "repair-done",
    "events-cleaned",
)
"""Kinds that may be deleted after a time. No other ever is: people decided it, or something was lost by it, or the code
itself asks whether it happened."""
