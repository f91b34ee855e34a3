"""A library behind the HTTP API of services that die while they answer: what `Client` needs of a `SpeakerDB`."""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from speakerdb.errors import DatabaseUnavailable, SpeakerDBError
from speakerdb.types import Kind

PATIENCE = 2.0
"""Seconds after which a client gives up; what it asked may happen all the same, as long as the service lives."""
PAGE = 500


class Refused(SpeakerDBError):
    """The service said no."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code  # type: ignore[misc]


@dataclass(frozen=True)
class Far:
    """Asks one of the services, any of them."""

    ports: Sequence[int]
    chance: random.Random

    @property
    def people(self) -> Far:
        """The verbs of names and people are here too."""
        return self

    def speakers(self) -> list[Any]:
        return self._all("/v1/speakers")

    def profiles(self) -> list[Any]:
        return self._all("/v1/profiles")

    def rename_speaker(self, speaker: str, name: str) -> Any:
        return self._ask("PUT", f"/v1/speakers/{_id(speaker)}/name", {"name": name})

    def assign(self, speaker: str, profile: str | None) -> Any:
        place = f"/v1/speakers/{_id(speaker)}/profile"
        return self._ask("DELETE", place) if profile is None else self._ask("PUT", place, {"profile": profile})

    def make_profile(self, name: str, *, profile_id: str) -> Any:
        return self._ask("POST", "/v1/profiles", {"id": profile_id, "name": name})

    def rename_profile(self, profile: str, name: str) -> Any:
        return self._ask("PUT", f"/v1/profiles/{_id(profile)}/name", {"name": name})

    def merge_profiles(self, source: str, into: str) -> Any:
        return self._ask("POST", f"/v1/profiles/{_id(source)}/merge", {"into": into})

    def delete_profile(self, profile: str) -> Any:
        return self._ask("DELETE", f"/v1/profiles/{_id(profile)}")

    def remove(self, recording: str) -> Any:
        return self._ask("DELETE", f"/v1/recordings/{_id(recording)}")

    def match(self, *, speaker: str, k: int, kind: Kind = Kind.SPEAKER) -> Any:
        return self._ask("POST", "/v1/matches", {"speaker": speaker, "k": k, "kind": kind.value})

    def _all(self, place: str) -> list[Any]:
        page = self._ask("GET", f"{place}?limit={PAGE}")
        assert page.next is None, "there is more than one page"
        return list(page.items)

    def _ask(self, method: str, place: str, body: object = None) -> Any:
        """The answer of any of the services. `Refused` says that nothing was done, `DatabaseUnavailable` says nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", self.chance.choice(self.ports), timeout=PATIENCE)
        try:
            connection.request(
                method, place, None if body is None else json.dumps(body), {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            status, told = answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise DatabaseUnavailable(f"No service answered: {error}.") from error
        finally:
            connection.close()
        found = json.loads(told, object_hook=lambda each: SimpleNamespace(**each)) if told else SimpleNamespace()
        if status == 500:
            raise RuntimeError(f"{method} {place}: {told.decode()}")
        if status > 500:
            raise DatabaseUnavailable(f"{method} {place}: {found.code}")
        if status >= 400:
            raise Refused(found.code)
        return found


def _id(given: str) -> str:
    return quote(given, safe="")
