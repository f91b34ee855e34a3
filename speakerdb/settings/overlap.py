"""Settings of what is measured of talk and voices."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class OverlapSettings(BaseModel):
    """What is measured of a recording while its speakers' vectors are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(
        default=True,
        description="Store overlaps, talk, level and pitch of each recording that is extracted, where they are not stored yet."
        " If off, nothing is stored; overlaps of a recording can still be made from its turns when they are asked for.",
    )
