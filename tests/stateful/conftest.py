"""Libraries on files and on real servers, for tests that stop, lose and delay what happens between them and the product."""

from tests.on_servers import backend, postgresql_backend, servers_backend, spare_databases

__all__ = ["backend", "postgresql_backend", "servers_backend", "spare_databases"]
