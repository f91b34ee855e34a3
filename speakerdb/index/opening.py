"""Which vector index the settings mean. The one place that asks."""

from __future__ import annotations

from pathlib import Path

from speakerdb.index.port import VectorIndex
from speakerdb.settings import Settings


def open_index(settings: Settings) -> VectorIndex:
    """OpenSearch where hosts are given, else the embedded index in the data folder. `BackendError` classes."""
    if settings.opensearch.hosts:
        # Here, so that what runs on the embedded index need not load the driver.
        from speakerdb.index.opensearch.adapter import OpenSearchIndex

        return OpenSearchIndex(settings.opensearch)
    from speakerdb.index.embedded import EmbeddedIndex

    return EmbeddedIndex(settings.index_path)


def missing_file(settings: Settings) -> Path | None:
    """The embedded index's file where it should be and is not; opening the index would make it."""
    return None if settings.opensearch.hosts or settings.index_path.exists() else settings.index_path
