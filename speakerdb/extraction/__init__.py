"""The queue's way to embeddings: `extract` computes without a database, `Extraction` drains the queue and commits."""

from speakerdb.extraction.drain import Extraction
from speakerdb.extraction.extract import Extracted, Loader, Task, extract
from speakerdb.extraction.report import StepReport

__all__ = ["Extracted", "Extraction", "Loader", "StepReport", "Task", "extract"]
