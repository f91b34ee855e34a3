"""The whole product against a plain model, with everything that can go wrong."""

from __future__ import annotations

from speakerdb.testing.machine import LibraryMachine

TestLibrary = LibraryMachine.TestCase
