"""The queue's way to embeddings: `extract` computes without a database, `Extraction` drains the queue and commits."""

from speakerdb.extraction.drain import Extraction, StepReport
from speakerdb.extraction.extract import Extracted, Loader, Task, extract

__all__ = ["Extracted", "Extraction", "Loader", "StepReport", "Task", "extract"]
