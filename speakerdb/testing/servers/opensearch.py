"""OpenSearch: what tests ask of one, a node of our own, and a cluster of three."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
import zipfile
from pathlib import Path
from typing import Any

from speakerdb.testing.servers import downloads, java
from speakerdb.testing.servers.process import Server, free_ports, lay_down, made_once
from speakerdb.testing.servers.run import NoServer, Run, give_away, open_to_all, unprivileged

# No proxy of the environment between us and loopback.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The only module that wants the Thai locale, without which it lets no index be made. It holds analysers of text.
NEEDS_LOCALES = "modules/analysis-common/"
LOGGING = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
"""
# For short-lived nodes: half the memory, a second less to start, slower when it has long been busy.
SMALL = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def fresh_prefix() -> str:
    """A prefix for the names of one test's indices and aliases."""
    return f"test-{uuid.uuid4().hex[:12]}-"


class OpenSearch:
    """One OpenSearch by its address, without security."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def ask(self, method: str, path: str, body: Any = None, seconds: float = 30.0) -> Any:
        """Sends a request and reads the answer as JSON. `OSError` where there is none or it is a refusal."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310 - an address of loopback
            f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with _OPENER.open(request, timeout=seconds) as answer:
            return json.loads(answer.read() or b"null")

    def reach(self) -> None:
        """`NoServer` where what the address names cannot be used."""
        try:
            self.ask("GET", "/")
        except (OSError, ValueError) as error:
            raise NoServer(f"the OpenSearch that was named, {self.url}, cannot be used: {error}") from error

    def remove(self, prefix: str = "") -> None:
        """Removes every index, hidden ones too, and every index template whose name begins with a prefix."""
        listing = self.ask("GET", f"/_cat/indices/{prefix}*?format=json&h=index&expand_wildcards=all")
        for name in (row["index"] for row in listing):
            self._remove_one(f"/{name}")
        self._remove_one(f"/_index_template/{prefix}*")

    def _remove_one(self, path: str) -> None:
        try:
            self.ask("DELETE", path)
        except urllib.error.HTTPError as error:
            with error:
                if error.code != 404:
                    raise


class OpenSearchServer(Server, OpenSearch):
    """One node of our own, with k-NN (engine lucene), on a port of loopback.

    `heap` in MiB; `small` for one that lives for a few tests. `peers` are the transport ports of a cluster's nodes.
    """

    title = "OpenSearch"

    def __init__(
        self, run: Run, name: str = "opensearch", *, heap: int = 1024, small: bool = False, peers: tuple[int, ...] = ()
    ) -> None:
        Server.__init__(self, run, name)
        self._heap = heap
        self._small = small
        made_once(run, name, lambda folder: _configure(run, folder, peers))
        OpenSearch.__init__(self, f"http://127.0.0.1:{self.known['port']}")

    def command(self) -> list[str]:
        known = self.known
        home = known["home"]
        return [
            known["java"],
            f"-D{self.mark}",
            f"-Xms{min(self._heap, 128)}m",
            f"-Xmx{self._heap}m",
            f"-XX:MaxDirectMemorySize={self._heap // 2}m",
            *(SMALL if self._small else ("-XX:+UseG1GC", "-XX:G1ReservePercent=25")),
            "-Xss1m",
            "-Djava.awt.headless=true",
            "-Dfile.encoding=UTF-8",
            "-Djna.nosys=true",
            "-Dio.netty.noUnsafe=true",
            "-Dio.netty.noKeySetOptimization=true",
            "-Dio.netty.recycler.maxCapacityPerThread=0",
            "-Dio.netty.allocator.numDirectArenas=0",
            "-Dlog4j.shutdownHookEnabled=false",
            "-Dlog4j2.disable.jmx=true",
            "-Djava.locale.providers=SPI,CLDR",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dorg.apache.lucene.store.MMapDirectory.sharedArenaMaxPermits=1",
            f"-javaagent:{home}/agent/opensearch-agent.jar",
            "--add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED",
            *(["--add-modules=jdk.incubator.vector"] if known["complete"] else []),
            f"-Dopensearch.path.home={home}",
            f"-Dopensearch.path.conf={self.folder / 'config'}",
            "-Dopensearch.distribution.type=zip",
            "-Dopensearch.bundled_jdk=false",
            "-cp",
            f"{home}/lib/*",
            "org.opensearch.bootstrap.OpenSearch",
            *(f"-E{name}={value}" for name, value in known["settings"].items()),
        ]

    def ready(self) -> bool:
        """Whether it answers and every primary shard is at work."""
        try:
            return bool(self.ask("GET", "/_cluster/health", seconds=5.0)["status"] != "red")
        except OSError:
            return False

    def empty(self) -> None:
        """Removes every index and template, and every cluster setting that was changed."""
        _empty(self)


class Cluster:
    """Three small nodes. `nodes[i]` may be stopped, killed and paused; the first is no other than the rest."""

    def __init__(self, run: Run, name: str = "cluster", *, heap: int = 384) -> None:
        laid_down = run.folder / f"{name}.ports"  # the nodes know each other by them
        if not laid_down.exists():
            laid_down.write_text(json.dumps(free_ports(3)))
        ports: list[int] = json.loads(laid_down.read_text())
        self.nodes = tuple(
            OpenSearchServer(
                run, f"{name}-{place}", heap=heap, small=True, peers=(port, *(p for p in ports if p != port))
            )
            for place, port in enumerate(ports)
        )

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses of the nodes."""
        return tuple(node.url for node in self.nodes)

    def start(self) -> None:
        """Starts the nodes that do not run and waits until all three know each other."""
        for node in self.nodes:
            node.launch()
        for node in self.nodes:
            node.wait_until_ready()
        for node in self.nodes:
            node.ask("GET", "/_cluster/health?wait_for_nodes=3&timeout=60s", seconds=70.0)

    def resume(self) -> None:
        """Lets paused nodes go on."""
        for node in self.nodes:
            node.resume()

    def empty(self) -> None:
        """Removes every index and template, and every cluster setting that was changed."""
        _empty(self.nodes[0])

    def discard(self) -> None:
        """Ends the nodes and removes their data."""
        for node in self.nodes:
            node.discard()


def _empty(server: OpenSearch) -> None:
    server.remove()
    server.ask("PUT", "/_cluster/settings", {"persistent": {"*": None}, "transient": {"*": None}})


def _configure(run: Run, folder: Path, peers: tuple[int, ...]) -> None:
    runtime = java.choose()
    home = _unpack(run, complete=runtime.complete)
    for name in ("config", "data", "tmp"):
        (folder / name).mkdir()
        give_away(folder / name)
    port, transport = (*free_ports(1), *peers[:1]) if peers else free_ports(2)
    # What is said beside the settings that docker-compose.yml gives its nodes, too.
    settings = {
        "cluster.name": folder.name.rstrip("0123456789-"),
        "node.name": f"node-{transport}",
        "path.data": str(folder / "data"),
        "path.logs": str(folder / "tmp"),
        "network.host": "127.0.0.1",
        "http.port": str(port),
        "transport.port": str(transport),
        # A developer's disk is often fuller than a server's should be.
        "cluster.routing.allocation.disk.threshold_enabled": "false",
    }
    if peers:
        settings["discovery.seed_hosts"] = ",".join(f"127.0.0.1:{peer}" for peer in sorted(peers))
        settings["cluster.initial_cluster_manager_nodes"] = ",".join(f"node-{peer}" for peer in sorted(peers))
    else:
        settings["discovery.type"] = "single-node"
    for name, text in (("opensearch.yml", shared_settings()), ("log4j2.properties", LOGGING)):
        (folder / "config" / name).write_text(text)
        (folder / "config" / name).chmod(0o644)
    program = run.reachable(runtime.home, "bin/java") / "bin" / "java"
    lay_down(
        folder, port=port, name=settings["node.name"], java=str(program), home=str(home), complete=runtime.complete,
        settings=settings,
    )  # fmt: skip


def shared_settings() -> str:
    """`opensearch/opensearch.yml`: in the wheel beside this package, in a checkout at the top."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_opensearch"
    folder = packed if packed.is_dir() else package.parent / "opensearch"
    return (folder / "opensearch.yml").read_text(encoding="utf-8")


def _unpack(run: Run, *, complete: bool) -> Path:
    """The folder of OpenSearch itself, which the nodes of the run share; without what an incomplete Java cannot run."""
    folder = run.folder / ("opensearch-home" if complete else "opensearch-home-reduced")
    with run.locked("opensearch-home"):
        if not folder.exists():
            part = folder.with_suffix(".part")
            try:
                with zipfile.ZipFile(downloads.obtain(downloads.OPENSEARCH)) as archive:
                    names = archive.namelist()
                    top = names[0].split("/")[0]
                    left_out = () if complete else (f"{top}/{NEEDS_LOCALES}",)
                    archive.extractall(part, [name for name in names if not name.startswith(left_out or "\0")])
                with zipfile.ZipFile(downloads.obtain(downloads.KNN)) as archive:
                    archive.extractall(part / top / "plugins" / "opensearch-knn")
            except OSError as error:
                raise NoServer(f"OpenSearch could not be unpacked into {part}: {error}") from error
            if unprivileged() is not None:
                open_to_all(part)
            (part / top).rename(folder)
            part.rmdir()
    return folder
