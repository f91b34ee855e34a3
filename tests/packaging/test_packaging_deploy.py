"""The image, the compose file and the unit: what they name exists, and they ask for no more than they need."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from speakerdb.cli import main as door
from speakerdb.settings import TOKEN_VARIABLES, ModelSettings, Settings

VARIABLES = {f"SPEAKERDB_{name.upper()}" for name in Settings.model_fields} | {"SPEAKERDB_CONFIG"}
VARIABLES |= {f"SPEAKERDB_MODELS__{name.upper()}" for name in ModelSettings.model_fields}
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


def given(repository: Path, name: str) -> list[str]:
    return [rest for instruction, rest in instructions(repository) if instruction == name]


def test_the_image_runs_verbs_that_exist(repository: Path) -> None:
    (entry,) = (json.loads(rest) for rest in given(repository, "ENTRYPOINT"))
    (default,) = (json.loads(rest) for rest in given(repository, "CMD"))
    check_command([*entry, *default])
    (health,) = given(repository, "HEALTHCHECK")
    check_command(json.loads(health.partition(" CMD ")[2]))


def test_the_image_is_built_from_the_lock_and_names_no_other_registry(repository: Path) -> None:
    installs = [rest for rest in given(repository, "RUN") if "pip install" in rest]
    assert ["--require-hashes" in installs[0], "--no-index" in installs[1]] == [True, True]
    assert len(installs) == 2
    for image in given(repository, "FROM"):
        name = image.split()[0]
        assert re.fullmatch(r"python:3\.1[123]-slim", name), "an official image, by its short name"


def test_the_image_keeps_its_data_in_the_volume_and_is_not_root(repository: Path) -> None:
    words = [word for rest in given(repository, "ENV") for word in shlex.split(rest)]
    variables = dict(word.split("=", 1) for word in words)
    check_variables({name for name in variables if not name.startswith("PIP_")})
    (volume,) = (json.loads(rest) for rest in given(repository, "VOLUME"))
    assert volume == [variables["SPEAKERDB_DATA_DIR"]]
    assert variables["HF_HOME"].startswith(volume[0] + "/")
    (user,) = given(repository, "USER")
    assert user not in ("root", "0")
    names = [name for name, _ in instructions(repository)]
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert names.index("USER") > len(names) - names[::-1].index("RUN") - 1, "nothing runs as root after it"


def test_what_the_image_copies_exists_and_is_sent_to_the_builder(repository: Path) -> None:
    sent = (repository / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    for rest in given(repository, "COPY"):
        if rest.startswith("--from"):
            continue
        for source in rest.split()[:-1]:
            assert (repository / source).exists(), source
            assert f"!{source}" in sent, source
    for line in sent:
        if line.startswith("!"):
            assert (repository / line[1:]).exists(), line


# Compose


def test_the_compose_file_names_what_exists(repository: Path) -> None:
    project = yaml.safe_load((repository / "docker-compose.yml").read_text(encoding="utf-8"))
    assert set(project) == {"name", "services", "volumes"}
    (worker,) = project["services"].values()
    check_command(["speakerdb", *worker["command"]])
    kind, *health = worker["healthcheck"]["test"]
    assert kind == "CMD"
    check_command(health)
    check_variables(set(worker["environment"]))
    assert (repository / worker["build"] / "Dockerfile").is_file()
    mounts = {target.partition(":")[0]: source for source, target in (_mount(v) for v in worker["volumes"])}
    assert mounts[worker["environment"]["SPEAKERDB_DATA_DIR"]] in project["volumes"]
    assert worker["environment"]["SPEAKERDB_MEDIA_ROOTS"] in mounts
    assert any(volume.endswith(":/media:ro") for volume in worker["volumes"]), "media are only read"
    assert worker["read_only"] is True
    assert worker["cap_drop"] == ["ALL"]


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


def test_the_unit_starts_the_worker_and_settles_when_it_is_stopped(repository: Path) -> None:
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
