"""What extraction did, counted, so that a change of its cost shows without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class Work:
    """What passed through workers. Seconds of sound are named after what was done with them, seconds by the clock `…_time`.

    Recordings that failed are not counted. `network_share` and `decode_share` are of `total_time`, in which a worker had
    something to do; the network and decoders of other recordings work at the same time, so they need not add up to 1.
    """

    forwards: int = 0
    """Passes through a network."""
    embedded_seconds: float = 0.0
    """Seconds of speech that passed it."""
    decoded_seconds: float = 0.0
    """Seconds of sound that were decoded for that: once, where two generations use the same."""
    decode_time: float = 0.0
    network_time: float = 0.0
    load_time: float = 0.0
    """In which models were loaded."""
    total_time: float = 0.0
    loads: int = 0
    """How many models were loaded: each once a worker, as long as it is held."""
    network_share: float = field(init=False, default=0.0)
    decode_share: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if self.total_time > 0:
            object.__setattr__(self, "network_share", self.network_time / self.total_time)
            object.__setattr__(self, "decode_share", self.decode_time / self.total_time)

    def __add__(self, other: Work) -> Work:
        return Work(**{name: getattr(self, name) + getattr(other, name) for name in COUNTED})


COUNTED = tuple(each.name for each in fields(Work) if each.init)
"""What is counted, and may be added up."""
