"""How a preference is written, and what is decided from it: no database, no index."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speakerdb.core.preference import Plan, Preference, decide, from_switches, parse
from speakerdb.errors import InvalidInput


@pytest.mark.parametrize(
    ("mode", "version", "fallback", "text"),
    [
        (None, None, None, None),
        ("", " ", "", None),
        ("auto", None, None, "auto"),
        ("AUTO", "v4", "v3", "auto:v4/v3"),  # as the old product's page has it
        ("auto", "v4", None, "auto:v4"),
        ("v3", None, None, "v3"),
        ("v3", "v3", None, "v3"),
        ("v3", None, "v4", "v3/v4"),
        (None, "v3", None, "v3"),  # the way back in an emergency, on the same page
        (None, "v3", "v4", "v3/v4"),
    ],
)
def test_the_three_switches(mode: str | None, version: str | None, fallback: str | None, text: str | None) -> None:
    found = from_switches(mode, version, fallback)
    assert (None if found is None else found.text) == text
    if found is not None and text is not None:
        assert parse(text) == found


@pytest.mark.parametrize(
    ("mode", "version", "fallback"),
    [("v3", "v4", None), ("auto", "v4", "v4"), ("v3", None, "v3"), ("auto", None, "v3"), (None, None, "v3")],
)
def test_switches_that_contradict_each_other(mode: str | None, version: str | None, fallback: str | None) -> None:
    with pytest.raises(InvalidInput):
        from_switches(mode, version, fallback)


@pytest.mark.parametrize("text", ["", "v3/", "/v3", "auto:", "auto/v3", "v3:v4", "v3/v4/v5", "v 3", "auto:v4/v4"])
def test_what_is_no_preference(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert "auto:v4/v3" in caught.value.hint


LIVE = ("v3", "v4")
FIXED, GENTLE = Preference("v4", None, True), Preference("v4", None, False)


@pytest.mark.parametrize(
    ("preference", "serving", "complete", "order", "checked", "obeyed"),
    [
        (None, "v3", True, ("v3", "v4"), False, True),
        (Preference(None), "v3", True, ("v3", "v4"), False, True),
        # What is complete answers; fixed: it alone.
        (FIXED, "v3", True, ("v4",), False, True),
        (GENTLE, "v3", True, ("v4", "v3"), False, True),
        (Preference("v4", "v3", True), "v3", True, ("v4", "v3"), False, True),
        # What is not complete is used with its fallback only.
        (FIXED, "v3", False, ("v3", "v4"), False, False),
        (GENTLE, "v3", False, ("v3", "v4"), False, False),
        (Preference("v4", "v3", True), "v3", False, ("v4", "v3"), True, True),
        (Preference("v4", "v3", False), "v3", False, ("v4", "v3"), True, True),
        # A fallback that has no index is none.
        (Preference("v4", "v5", True), "v3", False, ("v3", "v4"), False, False),
        # What the alias names is never asked whether it is complete.
        (Preference("v3", None, True), "v3", False, ("v3",), False, True),
        (Preference("v3", "v4", True), "v3", False, ("v3", "v4"), False, True),
        # What has no index cannot answer.
        (Preference("v5", None, True), "v3", True, ("v3", "v4"), False, False),
        (Preference("v5", "v4", True), "v3", True, ("v4",), False, False),
        (Preference("v5", "v4", False), "v3", True, ("v4", "v3"), False, False),
    ],
)
def test_what_is_decided(
    preference: Preference | None, serving: str, complete: bool, order: tuple[str, ...], checked: bool, obeyed: bool
) -> None:
    found = decide(preference, serving, LIVE, lambda _: complete)
    assert (found.order, found.checked, found.obeyed) == (order, checked, obeyed)
    assert bool(found.reason) == (preference is not None and preference.generation is not None)


names = st.sampled_from(["v3", "v4", "v5", "v6"])


@given(
    st.builds(Preference, names, st.none() | names, st.booleans()).filter(lambda one: one.generation != one.fallback),
    st.sets(names, min_size=1),
    st.data(),
    st.booleans(),
)
def test_no_answer_comes_from_where_none_can(
    preference: Preference, live: set[str], data: st.DataObject, complete: bool
) -> None:
    serving = data.draw(st.sampled_from(sorted(live)))
    asked: list[str] = []

    def is_complete(name: str) -> bool:
        asked.append(name)
        return complete

    found: Plan = decide(preference, serving, sorted(live), is_complete)
    assert found.order
    assert set(found.order) <= live
    assert len(set(found.order)) == len(found.order)
    assert not found.checked or (len(found.order) >= 2 and found.order[1] == preference.fallback)
    assert set(asked) <= {preference.generation}
    if not complete and asked and preference.fallback not in live:
        assert found.order[0] == serving, "what is not complete was used without a fallback"
    if preference.fixed and found.obeyed:
        assert set(found.order) <= set(preference.names), "another than those that were named answers"
