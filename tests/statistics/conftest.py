"""A catalog of either kind, and a library without sound."""

from tests.catalog.conftest import catalog, clock, kind, spare_databases, url

__all__ = ["catalog", "clock", "kind", "spare_databases", "url"]
