"""A real PostgreSQL; skipped, and said so, where there is none."""

from tests.on_postgres import spare_databases

__all__ = ["spare_databases"]
