"""The service: the jobs that keep a library current, and who does them."""

from speakerdb.scheduler.service import STOP_SECONDS, Service

__all__ = ["STOP_SECONDS", "Service"]
