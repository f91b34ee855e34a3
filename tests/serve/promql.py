"""As much of PromQL as the alert rules use, on metrics as they were scraped: aggregations, set operators by `on()`,
comparisons that filter, `increase` from the first scrape to the last, and `time()`. Anything else is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Vector: TypeAlias = dict[Labels, float]
Value: TypeAlias = "float | Vector"
TOKEN = re.compile(
    r'\s*(?:(\d+(?:\.\d+)?[smhd]?)|([A-Za-z_][A-Za-z0-9_]*)|("[^"]*")|(=~|!=|==|>=|<=|[-+*/(){}\[\],=<>]))'
)
AGGREGATIONS: dict[str, Callable[[list[float]], float]] = {"sum": sum, "max": max, "min": min}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": lambda a, b: a == b, "!=": lambda a, b: a != b, ">": lambda a, b: a > b, "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b, "<=": lambda a, b: a <= b,
}  # fmt: skip
ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": lambda a, b: a / b if b else float("nan"),
}  # fmt: skip


@dataclass(frozen=True)
class Scrape:
    """What one process told at one time: the value of each series, by name and labels."""

    at: float
    series: dict[str, Vector]

    @classmethod
    def of(cls, at: float, text: bytes) -> Scrape:
        series: dict[str, Vector] = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                series.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return cls(at, series)


def names(expression: str) -> set[str]:
    """The metrics that an expression names."""
    return set(re.findall(r"\bspeakerdb_\w+", expression))


def fires(expression: str, scrapes: Sequence[Scrape]) -> bool:
    """Whether an alert on this expression has something to tell after these scrapes."""
    parser = _Parser(expression, scrapes)
    found = parser.expression()
    assert parser.peek() == "", f"what is {parser.peek()!r} in {expression}?"
    assert isinstance(found, dict), f"{expression} is no vector"
    return bool(found)


class _Parser:
    def __init__(self, text: str, scrapes: Sequence[Scrape]) -> None:
        self._tokens: list[str] = []
        at = 0
        while at < len(text.rstrip()):
            found = TOKEN.match(text, at)
            assert found, f"what is this: {text[at:]}"
            self._tokens.append(found.group().strip())
            at = found.end()
        self._scrapes = scrapes

    def peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def take(self, *wanted: str) -> str:
        found = self._tokens.pop(0)
        assert not wanted or found in wanted, f"{found} instead of {wanted}"
        return found

    def expression(self) -> Value:
        left = self._comparison()
        while self.peek() in ("and", "unless"):
            keep = self.take() == "and"
            self.take("on")
            labels = self._names()
            right = self._comparison()
            assert isinstance(left, dict)
            assert isinstance(right, dict)
            known = {_only(each, labels) for each in right}
            left = {each: value for each, value in left.items() if (_only(each, labels) in known) is keep}
        return left

    def _comparison(self) -> Value:
        left = self._sum()
        if self.peek() not in COMPARISONS:
            return left
        holds = COMPARISONS[self.take()]
        right = self._sum()
        assert isinstance(left, dict), "scalars are not compared in a rule"
        return {
            each: value for each, value in left.items()
            if (other := right if isinstance(right, float) else right.get(each)) is not None and holds(value, other)
        }  # fmt: skip

    def _sum(self) -> Value:
        left = self._product()
        while self.peek() in ("+", "-"):
            left = _together(ARITHMETIC[self.take()], left, self._product())
        return left

    def _product(self) -> Value:
        left = self._one()
        while self.peek() in ("*", "/"):
            left = _together(ARITHMETIC[self.take()], left, self._one())
        return left

    def _one(self) -> Value:
        word = self.take()
        if word[0].isdigit():
            return float(word)
        if word == "(":
            found = self.expression()
            self.take(")")
            return found
        if word in AGGREGATIONS:
            return self._aggregated(AGGREGATIONS[word])
        if word == "time":
            self.take("(")
            self.take(")")
            return self._scrapes[-1].at
        if word == "increase":
            self.take("(")
            found = self._increase(self.take())
            self.take(")")
            return found
        return self._selected(word, self._matchers(), self._scrapes[-1])

    def _aggregated(self, fold: Callable[[list[float]], float]) -> Vector:
        by: Iterable[str] = ()
        if self.peek() == "by":
            self.take()
            by = self._names()
        self.take("(")
        inner = self.expression()
        self.take(")")
        assert isinstance(inner, dict)
        groups: dict[Labels, list[float]] = {}
        for each, value in inner.items():
            groups.setdefault(_only(each, by), []).append(value)
        return {each: fold(values) for each, values in groups.items()}

    def _increase(self, name: str) -> Vector:
        matchers = self._matchers()
        self.take("[")
        assert re.fullmatch(r"\d+[smhd]", self.take())
        self.take("]")
        assert len(self._scrapes) > 1, "an increase needs two scrapes"
        before, after = (self._selected(name, matchers, scrape) for scrape in (self._scrapes[0], self._scrapes[-1]))
        return {each: value - before.get(each, 0.0) for each, value in after.items()}

    def _matchers(self) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        if self.peek() == "{":
            self.take()
            while self.peek() != "}":
                found.append((self.take(), self.take("=", "!=", "=~"), self.take().strip('"')))
                if self.peek() == ",":
                    self.take()
            self.take()
        return found

    def _selected(self, name: str, matchers: list[tuple[str, str, str]], scrape: Scrape) -> Vector:
        def matches(labels: Labels) -> bool:
            have = dict(labels)
            return all(
                {
                    "=": have.get(label, "") == value,
                    "!=": have.get(label, "") != value,
                    "=~": re.fullmatch(value, have.get(label, "")) is not None,
                }[how]
                for label, how, value in matchers
            )

        return {labels: value for labels, value in scrape.series.get(name, {}).items() if matches(labels)}

    def _names(self) -> list[str]:
        self.take("(")
        found = []
        while self.peek() != ")":
            found.append(self.take())
            if self.peek() == ",":
                self.take()
        self.take()
        return found


def _only(labels: Labels, names: Iterable[str]) -> Labels:
    kept = set(names)
    return frozenset((name, value) for name, value in labels if name in kept)


def _together(act: Callable[[float, float], float], left: Value, right: Value) -> Value:
    if isinstance(left, float) and isinstance(right, float):
        return act(left, right)
    if isinstance(left, float):
        assert isinstance(right, dict)
        return {each: act(left, value) for each, value in right.items()}
    if isinstance(right, float):
        return {each: act(value, right) for each, value in left.items()}
    return {each: act(value, right[each]) for each, value in left.items() if each in right}
