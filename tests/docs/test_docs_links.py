"""What a page points at is there, and what must not be in a page is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, page, pages

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:speakerdb|tests|docs|migrations|benchmarks)/[\w./-]*|[A-Z]\w+\.md|requirements\.lock)`")
MODULE = re.compile(r"`(speakerdb(?:\.(?!toml|log)\w+)+)`")
# Paths of somebody's machine. Addresses of package registries: tests/test_project.py looks through every tracked file.
FORBIDDEN = re.compile(r"(?<![\w.$])/(?:work|root|tmp|Users|home|mnt|private)/", re.IGNORECASE)
ALSO = [Page(ROOT / name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")]
EVERY = [*pages(), *ALSO]


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: shown.name)
def test_relative_links_resolve(shown: Page) -> None:
    for target in LINK.findall(shown.prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (shown.path.parent / name).resolve() if name else shown.path
        assert path.exists(), f"{shown.name}: {target}"
        assert path.is_relative_to(ROOT), f"{shown.name}: {target} leaves the repository"
        if anchor:
            assert anchor in Page(path).anchors(), f"{shown.name}: {target}"


@pytest.mark.parametrize("shown", EVERY, ids=lambda shown: shown.name)
def test_files_and_modules_that_are_named_exist(shown: Page) -> None:
    for name in FILE.findall(shown.prose):
        assert (ROOT / name).exists(), f"{shown.name}: {name}"
    for name in MODULE.findall(shown.prose):
        parts = name.split(".")
        inside = ROOT.joinpath(*parts[:-1])
        whole = ROOT.joinpath(*parts)
        holders = [path for path in (inside.with_suffix(".py"), inside / "__init__.py") if path.is_file()]
        defined = re.compile(rf"^(class|def) {parts[-1]}\b", re.MULTILINE)
        assert (
            whole.is_dir()
            or whole.with_suffix(".py").is_file()
            or any(defined.search(path.read_text(encoding="utf-8")) for path in holders)
        ), f"{shown.name}: {name}"


@pytest.mark.parametrize("path", [p.path for p in EVERY] + sorted((ROOT / "docs").rglob("*.svg")), ids=lambda p: p.name)
def test_no_path_of_a_machine(path: Path) -> None:
    found = FORBIDDEN.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{path.name}: {found.group() if found else ''}"


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [page("README.md")]
    while waiting:
        shown = waiting.pop()
        if shown.path in reached:
            continue
        reached.add(shown.path)
        for target in LINK.findall(shown.prose):
            path = (shown.path.parent / target.partition("#")[0]).resolve()
            if path.suffix == ".md" and path.is_file():
                waiting.append(Page(path))
    assert {p.path for p in pages()} <= reached


def test_every_picture_is_shown_and_says_what_it_shows() -> None:
    shown = {t for p in pages() for t in re.findall(r"!\[[^\]]{20,}\]\((?:\.\./)?(images/[^)]+)\)", p.text)}
    assert {f"images/{p.name}" for p in (ROOT / "docs" / "images").iterdir()} == shown
