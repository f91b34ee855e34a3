"""Settings of what computes embeddings."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Backend = Literal["auto", "torch", "openvino", "openvino-int8"]
Precision = Literal["float32", "half"]


class ExtractorSettings(BaseModel):
    """What computes embeddings. None of it changes what they mean: that is the generation's recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Backend = Field(
        default="auto",
        description="`torch`, `openvino` (on the processor), or `auto`: the fastest one on this machine, measured once."
        " `openvino-int8` is for generations whose recipe says int8, and `auto` takes it for them.",
    )
    precision: Precision = Field(
        default="float32",
        description="`half`: on a GPU, the convolutions of WeSpeaker networks in half precision. What comes before and after"
        " them stays in float32.",
    )
