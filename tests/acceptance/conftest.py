"""Libraries on files and on real servers, for the command line."""

from tests.on_servers import backend, servers_backend, spare_databases

__all__ = ["backend", "servers_backend", "spare_databases"]
