"""The site: it builds without a warning, it holds every page, and reading it needs no network."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from tests.docs.pages import ROOT, Page, pages

LOADING = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}


class Loaded(HTMLParser):
    """What a browser fetches by itself for one page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") != "canonical":
            self.addresses += [address] if (address := given.get(LOADING.get(tag, ""))) else []


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_every_page_is_in_the_site_and_in_its_navigation(site: Path) -> None:
    sources = {p.path.relative_to(ROOT / "docs") for p in pages() if p.path.is_relative_to(ROOT / "docs")}
    built = {path.relative_to(site) for path in site.rglob("*.html")}
    assert built - {Path("404.html"), Path("search.html")} == {source.with_suffix(".html") for source in sources}
    navigation = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert set(re.findall(r"[\w/-]+\.md", str(navigation))) == {source.as_posix() for source in sources}
    assert not list(site.rglob("*.py"))


def test_a_reader_fetches_nothing_from_elsewhere(site: Path) -> None:
    for path in site.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(path.read_text(encoding="utf-8"))
        assert loaded.addresses, path
        outside = [address for address in loaded.addresses if re.match(r"(https?:)?//", address)]
        assert outside == [], path.name
    for path in site.rglob("*.css"):
        assert re.findall(r"(?:url\(['\"]?|@import\s+['\"])(?:https?:)?//", path.read_text(encoding="utf-8")) == [], (
            path
        )


def test_blocks_are_blocks_and_lists_are_lists(site: Path) -> None:
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "```" not in text, f"{path.name}: a block that the renderer did not see"
        bodies = re.findall(r"<p>(.*?)</p>", text, re.DOTALL)
        assert [body for body in bodies if re.search(r"\n(- |\d+\. )", body)] == [], (
            f"{path.name}: a list inside a paragraph"
        )


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    with (tmp_path / "docs" / "glossary.md").open("a", encoding="utf-8") as page:
        page.write("\n[Nowhere](concepts.md#no-such-heading)\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode != 0
    assert "no-such-heading" in done.stderr


@pytest.mark.parametrize("shown", pages(), ids=lambda shown: shown.name)
def test_a_page_of_the_site_links_to_pages_of_the_site(shown: Page) -> None:
    if shown.name == "README.md":
        return
    for target in re.findall(r"\]\(([^)\s]+)\)", shown.prose):
        if not re.match(r"[a-z]+:|#", target):
            path = (shown.path.parent / target.partition("#")[0]).resolve()
            assert path.is_relative_to(ROOT / "docs"), f"{shown.name}: {target} is not in the site"
