"""The whole product against a plain model, with everything that can go wrong."""

from __future__ import annotations

from hypothesis import settings

from speakerdb.testing.machine import LibraryMachine

TestLibrary = LibraryMachine.TestCase
# A library of two processes is slow beside what Hypothesis usually runs: 20 examples, or 500 in the profile `thorough`.
TestLibrary.settings = settings(max_examples=settings().max_examples // 2)
