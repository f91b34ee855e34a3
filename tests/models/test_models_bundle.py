"""Packing models and installing them: three kinds of container, every kind of damage, and hostile bundles."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import CheckpointUntrusted, InvalidBundle, InvalidInput, ModelUnavailable, NotFound
from speakerdb.models import bundle
from speakerdb.models.manage import Models
from speakerdb.reports.mending import CopyProgress
from speakerdb.settings import GenerationSettings, Settings

DATA = b"a checkpoint" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
KINDS = ("models.tar", "models.zip", "models")
INSIDE = f"checkpoints/{SHA}/pytorch_model.bin"
Change = Callable[[dict[str, bytes]], None]


def settings(folder: Path, *, sha256: str | None = SHA, sources: tuple[str, ...] = ("cache",)) -> Settings:
    return Settings(
        data_dir=folder,
        generations={
            "v3": GenerationSettings(family="spectral", model="spectral-a"),
            "v4": GenerationSettings(sha256=sha256, sources=sources)
            if sha256
            else GenerationSettings(model="me/mine", sources=sources),
        },
    )


@pytest.fixture
def here(tmp_path: Path) -> Models:
    """The machine with network: its model lies in a folder."""
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(DATA)
    return Models(settings(tmp_path / "here", sources=(str(folder),)))


@pytest.fixture
def there(tmp_path: Path) -> Models:
    """The machine without."""
    return Models(settings(tmp_path / "there"))


@pytest.fixture(params=KINDS)
def packed(request: pytest.FixtureRequest, here: Models, tmp_path: Path) -> Path:
    out = tmp_path / str(request.param)
    here.pack(out)
    return out


def contents(path: Path) -> dict[str, bytes]:
    if path.is_dir():
        return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]


def write(path: Path, files: dict[str, bytes]) -> None:
    """A container of these files, with any names."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    elif path.suffix == ".tar":
        with tarfile.open(path, "w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    else:
        for name, data in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)


def changed(path: Path, change: Change) -> None:
    files = contents(path)
    change(files)
    write(path, files)


def manifest(files: dict[str, bytes], change: Callable[[dict[str, Any]], None]) -> None:
    value = json.loads(files["manifest.json"])
    change(value)
    files["manifest.json"] = json.dumps(value).encode()


def refused(there: Models, path: Path, error_class: type[Exception] = InvalidBundle) -> str:
    """Installing is refused, and nothing at all is left."""
    with pytest.raises(error_class) as caught:
        there.install(path)
    assert there.store.folders() == []
    assert not there.store.folder.exists() or list(there.store.folder.iterdir()) == []
    return str(caught.value)


def test_packed_here_and_installed_there(packed: Path, there: Models) -> None:
    seen: list[CopyProgress] = []
    report = there.install(packed, on_copy=seen.append)
    assert [(one.model.sha256, one.model.generations, one.new, one.pinned) for one in report.models] == [
        (SHA, ("v4",), True, True)
    ]
    assert there.store.path(SHA).read_bytes() == DATA
    assert seen[-1].done == seen[-1].total
    assert there.verify().models[1].places[0].verdict == "good"
    assert there.install(packed).models[0].new is False, "twice is fine"
    assert [p.name for p in there.store.folder.iterdir()] == [SHA]


def test_it_holds_what_is_needed_there(packed: Path) -> None:
    files = contents(packed)
    assert set(files) == {"manifest.json", "requirements.txt", "README.txt", INSIDE}
    told = json.loads(files["manifest.json"])
    assert {"speakerdb", "torch", "pyannote.audio", "python"} <= set(told["made_with"])
    assert told["models"][0]["licence"] == "CC-BY-4.0"
    assert told["models"][0]["id"] == "pyannote/wespeaker-voxceleb-resnet34-LM"
    pins = files["requirements.txt"].decode().splitlines()
    assert all(line.count("==") == 1 and "://" not in line for line in pins)
    assert any(line.startswith("torch==") for line in pins)
    assert any(line.startswith("pyannote-audio==") for line in pins)
    assert b"CC-BY-4.0" in files["README.txt"]


def test_what_is_not_here_is_left_out_or_refused(tmp_path: Path, there: Models) -> None:
    with pytest.raises(ModelUnavailable, match="v4"):
        there.pack(tmp_path / "x.tar")
    with pytest.raises(ModelUnavailable) as caught:
        there.pack(tmp_path / "x.tar", ["v4"])
    assert "models fetch --generation v4" in caught.value.hint
    assert not (tmp_path / "x.tar").exists()


def test_a_damaged_copy_is_not_packed(tmp_path: Path, here: Models) -> None:
    (tmp_path / "given" / "pytorch_model.bin").write_bytes(b"damaged")
    with pytest.raises(CheckpointUntrusted):
        here.pack(tmp_path / "x.tar", ["v4"])


def test_nothing_is_overwritten(here: Models, packed: Path) -> None:
    before = contents(packed)
    with pytest.raises(InvalidInput):
        here.pack(packed)
    assert contents(packed) == before
    assert [p.name for p in packed.parent.iterdir() if p.name.endswith(".part")] == []


def test_a_damaged_checkpoint_is_refused_before_anything_is_put_in_place(packed: Path, there: Models) -> None:
    def damage(files: dict[str, bytes]) -> None:
        files[INSIDE] = DATA[:-1] + b"!"

    changed(packed, damage)
    assert "damaged" in refused(there, packed)


@pytest.mark.parametrize("name", ["requirements.txt", "README.txt", INSIDE, "manifest.json"])
def test_a_missing_file_is_refused(packed: Path, there: Models, name: str) -> None:
    changed(packed, lambda files: files.pop(name) and None)
    refused(there, packed)


@pytest.mark.parametrize("name", ["extra.txt", "checkpoints/evil.py", f"checkpoints/{'0' * 64}/pytorch_model.bin"])
def test_an_extra_file_is_refused(packed: Path, there: Models, name: str) -> None:
    changed(packed, lambda files: files.update({name: b"x"}))
    assert name in refused(there, packed)


@pytest.mark.parametrize("kind", ["models.tar", "models.zip"])
@pytest.mark.parametrize("name", ["../evil", "/evil", "checkpoints/../../evil", "..\\evil", "a/b\\..\\..\\evil"])
def test_names_that_lead_out_are_refused(here: Models, there: Models, tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / kind
    here.pack(path)
    before = set(tmp_path.parent.iterdir())
    changed(path, lambda files: files.update({name: b"x"}))
    refused(there, path)
    assert set(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("change", [
    lambda m: m.update(format="other"),
    lambda m: m.update(version=2),
    lambda m: m.update(models=[]),
    lambda m: m.update(files={}),
    lambda m: m["models"].append(dict(m["models"][0])),
    lambda m: m["files"].append(dict(m["files"][0])),
    lambda m: m["models"][0].update(sha256="0" * 64),
    lambda m: m["models"][0].update(size=1),
    lambda m: m["models"][0].update(file="../evil"),
    lambda m: m["models"][0].update(dimension="256"),
    lambda m: m["models"][0].update(id="\x1b[31m"),
    lambda m: m["models"][0].update(extra=1),
    lambda m: m["files"][0].update(path="../../evil"),
    lambda m: m["files"][0].update(size=-1),
    lambda m: m["files"][0].update(size=10**18),
    lambda m: m.update(made_with=[]),
    lambda m: m["made_with"].update(torch="\x1b[2J"),
    lambda m: m.update(made_at=None),
])  # fmt: skip
def test_a_manifest_that_is_not_one_is_refused(
    here: Models, there: Models, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = tmp_path / "models"
    here.pack(path)
    changed(path, lambda files: manifest(files, change))
    refused(there, path)


@pytest.mark.parametrize("text", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b"x" * (1 << 21)])
def test_a_manifest_that_is_not_json_is_refused(here: Models, there: Models, tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "models.tar"
    here.pack(path)
    changed(path, lambda files: files.update({"manifest.json": text}))
    refused(there, path)


def tar_members() -> Iterator[Any]:
    def member(kind: bytes, **more: Any) -> tarfile.TarInfo:
        info = tarfile.TarInfo(INSIDE)
        info.type = kind
        for name, value in more.items():
            setattr(info, name, value)
        return info

    yield pytest.param(member(tarfile.SYMTYPE, linkname="/etc/passwd"), id="link")
    yield pytest.param(member(tarfile.LNKTYPE, linkname="manifest.json"), id="hard link")
    yield pytest.param(member(tarfile.FIFOTYPE), id="fifo")
    yield pytest.param(member(tarfile.CHRTYPE), id="device")
    yield pytest.param(member(tarfile.DIRTYPE, name="../out"), id="folder that leads out")


@pytest.mark.parametrize("info", list(tar_members()))
def test_what_is_no_plain_file_in_a_tar_is_refused(
    here: Models, there: Models, tmp_path: Path, info: tarfile.TarInfo
) -> None:
    path = tmp_path / "models.tar"
    here.pack(path)
    files = contents(path)
    if info.name == INSIDE:
        del files[INSIDE]
    write(path, files)
    with tarfile.open(path, "a") as tar:
        tar.addfile(info)
    assert "not a plain file" in refused(there, path)


def test_a_link_in_a_zip_is_refused(here: Models, there: Models, tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    here.pack(path)
    files = contents(path)
    del files[INSIDE]
    write(path, files)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo(INSIDE)
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "not a plain file" in refused(there, path)


@pytest.mark.parametrize("kind", ["link", "linked folder", "fifo"])
def test_what_is_no_plain_file_in_a_folder_is_refused(here: Models, there: Models, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "models"
    here.pack(path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "pytorch_model.bin").write_bytes(DATA)
    inside = path / INSIDE
    inside.unlink()
    match kind:
        case "link":
            inside.symlink_to(outside / "pytorch_model.bin")
        case "linked folder":
            inside.parent.rmdir()
            inside.parent.symlink_to(outside)
        case _:
            os.mkfifo(inside)
    assert "not a plain file" in refused(there, path)


def test_two_files_of_one_name_are_refused(here: Models, there: Models, tmp_path: Path) -> None:
    path = tmp_path / "models.tar"
    here.pack(path)
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo(INSIDE)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    assert "twice" in refused(there, path)


def test_a_zip_bomb_is_not_unpacked(here: Models, there: Models, tmp_path: Path) -> None:
    """The manifest states the small size; the entry is larger, and is not read beyond it."""
    path = tmp_path / "models.zip"
    here.pack(path)
    files = contents(path)
    files[INSIDE] = bytes(50_000_000)
    path.unlink()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    assert "size" in refused(there, path)


@pytest.mark.parametrize("cut", [100, 3000, 9000])
@pytest.mark.parametrize("kind", ["models.tar", "models.zip"])
def test_a_file_that_was_cut_off_is_refused(here: Models, there: Models, tmp_path: Path, kind: str, cut: int) -> None:
    path = tmp_path / kind
    here.pack(path)
    path.write_bytes(path.read_bytes()[:cut])
    refused(there, path)


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\x03\x04", b"hello" * 1000, bytes(4096)])
def test_another_file_is_refused(there: Models, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    refused(there, path)


def test_an_empty_folder_a_fifo_and_nothing_are_refused(there: Models, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "fifo")
    refused(there, tmp_path / "empty")
    refused(there, tmp_path / "fifo")
    refused(there, tmp_path / "nothing", NotFound)


def test_another_checkpoint_than_the_pinned_one_is_refused(packed: Path, tmp_path: Path) -> None:
    pinned = Models(settings(tmp_path / "pinned", sha256="0" * 64))
    assert SHA in refused(pinned, packed, CheckpointUntrusted)


def test_a_model_that_nobody_pinned_comes_in_with_the_words_that_pin_it(tmp_path: Path) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(DATA)
    Models(settings(tmp_path / "here", sha256=None, sources=(str(folder),))).pack(tmp_path / "m.tar")
    report = Models(settings(tmp_path / "there", sha256=None)).install(tmp_path / "m.tar")
    assert report.models[0].pinned is False
    assert f"SPEAKERDB_GENERATIONS__V4__SHA256={SHA}" in report.notices[0]


def test_a_damaged_store_is_replaced(packed: Path, there: Models) -> None:
    there.install(packed)
    there.store.path(SHA).write_bytes(b"damaged")
    assert there.install(packed).models[0].new
    assert there.store.path(SHA).read_bytes() == DATA
    assert [p.name for p in there.store.folder.iterdir()] == [SHA]


def test_requirements_follow_what_is_needed_and_no_extras() -> None:
    pins = {line.partition("==")[0] for line in bundle.requirements()}
    assert {"speakerdb", "sqlalchemy", "torch", "pyannote-audio"} <= pins
    assert "pytest" not in pins
