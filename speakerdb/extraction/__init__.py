"""The queue's way to embeddings: `extract` computes without a database, `drain.Extraction` drains the queue and commits.

Here is only what a worker process needs: it begins a good deal sooner without the catalog's libraries.
"""

from speakerdb.extraction.extract import Extracted, Loader, Task, extract
from speakerdb.extraction.report import StepReport

__all__ = ["Extracted", "Loader", "StepReport", "Task", "extract"]
