"""Settings of what finds out who speaks when."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Passes = Literal["shared", "unchanged"]
DiarizerBackend = Literal["auto", "torch", "openvino"]


class DiarizerSettings(BaseModel):
    """Which diarization pipeline is used, and how it is run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pipeline: str = Field(
        default="pyannote/speaker-diarization-community-1",
        min_length=1,
        description="A folder that holds a `config.yaml`, or a pipeline of the hub: a name that begins with `pyannote/`, or"
        " `hub:OWNER/NAME`. Anything else is a folder and never looked for online.",
    )
    on_add: bool = Field(
        default=True,
        description="Recordings that are added without turns are queued to be diarized. Otherwise they are refused.",
    )
    revision: str | None = Field(default=None, description="The hub's revision of it; the newest one unless set.")
    sha256: tuple[str, ...] = Field(
        default=(),
        description="SHA-256 of the files of weights that may be loaded. Those that a generation pins may be, too; others only"
        " with `allow_unknown_checkpoints`.",
    )
    allow_cloud: bool = Field(
        default=False,
        description="Allow pipelines that send the sound to pyannoteAI's servers (`pyannote/speaker-diarization-precision-2`).",
    )
    embedding: Passes = Field(
        default="shared",
        description="`shared`: each chunk of sound passes the embedding network once. `unchanged`: once a speaker slot, as in"
        " pyannote's own code; the same turns, in three times the time.",
    )
    backend: DiarizerBackend = Field(
        default="auto",
        description="What computes the shared passes: `torch`, `openvino` (on the processor), or `auto`, the fastest one on this"
        " machine, measured once.",
    )
    clustering: str | None = Field(
        default=None,
        description="Another clustering than the pipeline's: `VBxClustering` or `AgglomerativeClustering`.",
    )
    parameters: dict[str, float | int | str] = Field(
        default_factory=dict,
        description="Parameters of the pipeline, by dotted name (`clustering.threshold`), in the place of its own.",
    )
    segmentation_step: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="How far a chunk lies behind the one before it, as a share of its length; the pipeline's own unless set. 0.5"
        " takes a fifth of the time of 0.1, and is less accurate.",
    )
    segmentation_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Chunks that pass the segmentation network together; the pipeline's own unless set.",
    )
    embedding_batch_size: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Chunks that pass the embedding network together on a GPU; the pipeline's own unless set.",
    )
    window_minutes: float = Field(
        default=60.0,
        ge=1,
        le=600,
        description="Longer recordings are diarized in windows of so many minutes, whose speakers are joined.",
    )
    window_overlap_minutes: float = Field(
        default=5.0,
        gt=0,
        le=60,
        description="Minutes that two windows have in common; by them their speakers are recognised.",
    )

    @model_validator(mode="after")
    def _windows_overlap_by_less_than_half(self) -> DiarizerSettings:
        if self.window_overlap_minutes > self.window_minutes / 2:
            raise ValueError("window_overlap_minutes is at most half of window_minutes")
        return self
