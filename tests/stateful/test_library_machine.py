"""The whole product against a plain model, with everything that can go wrong."""

from __future__ import annotations

from hypothesis import settings

from speakerdb.testing.machine import LibraryMachine

TestLibrary = LibraryMachine.TestCase
# A library of two processes is slow beside what Hypothesis usually runs: 15 examples, or 375 in the profile `thorough`.
TestLibrary.settings = settings(max_examples=settings().max_examples * 3 // 8)
