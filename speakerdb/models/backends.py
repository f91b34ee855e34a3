"""From a checkpoint that was accepted to an embedder: on which back end, and why that one.

A float generation is computed in float and an int8 one in int8, whatever is set: a vector's arithmetic belongs to its
generation's recipe. Where a back end that was asked for cannot be used, torch computes, and that is said.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from speakerdb.errors import ConfigurationError, ModelUnavailable, NotCalibrated
from speakerdb.models.choosing import Candidate, Choice, Choices, measure
from speakerdb.models.networks import Network, Networks
from speakerdb.models.openvino import STREAMS, OpenVinoEmbedder, Plan, for_this_machine
from speakerdb.models.port import Embedder
from speakerdb.models.processor import may_have_gpu, multiplies_bf16, this_machine, threads
from speakerdb.models.pyannote import PyannoteEmbedder, check_device, check_fits
from speakerdb.models.sources import Checkpoint
from speakerdb.types import ModelSpec

logger = logging.getLogger(__name__)

TORCH, OPENVINO, INT8 = "torch", "openvino", "openvino-int8"
BACKENDS = ("auto", TORCH, OPENVINO, INT8)
MOST_STREAMS = 8


@dataclass(frozen=True, slots=True)
class How:
    """What is asked for: see `registry.load_embedder`."""

    backend: str
    arithmetic: str
    generation: str
    device: str
    half: bool
    telemetry: bool
    folder: Path | None


@dataclass(frozen=True, slots=True)
class Built:
    """An embedder, its back end, how it computes and why it was chosen, the checksum its vectors go by, and what a person
    should read once."""

    embedder: Embedder
    backend: str
    told: str
    why: str
    checksum: str
    notices: tuple[str, ...] = ()


def check(how: How) -> None:
    """`ConfigurationError` where what is asked for cannot be."""
    check_device(how.device)
    if how.backend not in BACKENDS:
        raise ConfigurationError(f"There is no back end {how.backend!r}.", hint=f"Use one of {', '.join(BACKENDS)}.")
    name = how.generation or "this generation"
    if how.arithmetic == "float" and how.backend == INT8:
        raise ConfigurationError(
            f"`extractor.backend` is {INT8}, and the recipe of {name} is not an int8 one: its vectors would be others.",
            hint="Set it to auto. For int8, define a new generation with the recipe spread-30-int8, and migrate to it.",
        )
    if how.arithmetic == "int8" and how.backend in (TORCH, OPENVINO):
        raise ConfigurationError(
            f"`extractor.backend` is {how.backend}, and the recipe of {name} says int8: its vectors would be others.",
            hint=f"Set it to auto, or to {INT8}. For float, define a new generation without int8, and migrate to it.",
        )
    if how.arithmetic not in ("float", "int8"):
        raise ConfigurationError(f"There is no arithmetic {how.arithmetic!r}.", hint="A recipe says float or int8.")
    if how.backend == OPENVINO and how.device.startswith("cuda"):
        raise ConfigurationError(
            f"`extractor.backend` is {OPENVINO}, which computes on the processor, and `device` is {how.device}.",
            hint="Set `device` to auto or cpu, or `extractor.backend` to torch.",
        )


class Builder:
    """Makes the embedder of one checkpoint."""

    def __init__(self, checkpoint: Checkpoint, spec: ModelSpec, name: str, how: How) -> None:
        """`name` is how a person should read what was loaded."""
        self._checkpoint = checkpoint
        self._spec = spec
        self._name = name
        self._how = how

    def build(self) -> Built:
        """The embedder. `ModelUnavailable` for a checkpoint that is none, or another architecture's; `DimensionMismatch`;
        `NotCalibrated`; `ConfigurationError` where a library cannot be imported."""
        how = self._how
        if how.arithmetic == "int8":
            return self._quantised()
        if how.backend == TORCH:
            return self._torch("as set")
        if how.backend == OPENVINO:
            return self._openvino_as_set()
        if how.device != "cpu" and (how.device != "auto" or may_have_gpu()):
            embedder = self.reference
            if embedder.device != "cpu" or how.device != "auto":
                return self._torch(
                    "a GPU is there" if embedder.device != "cpu" else "the GPU that was asked for is not"
                )
        return self._fastest()

    @cached_property
    def reference(self) -> PyannoteEmbedder:
        """The model in torch: where the others come from, and what they are compared with."""
        how = self._how
        return PyannoteEmbedder.load(
            self._checkpoint.data, self._spec, model_id=self._name, device=how.device, telemetry=how.telemetry, half=how.half
        )  # fmt: skip

    @cached_property
    def network(self) -> Network:
        """The checkpoint's network for OpenVINO, converted where it was not, or where what was kept is damaged.

        `ModelUnavailable` where it cannot be converted.
        """
        from speakerdb.models.converting import convert

        kept = None if self._networks is None else self._networks.get(self._checkpoint.sha256)
        if kept is not None:
            check_fits(self._spec, kept.about.architecture, kept.about.dimension)
            return kept
        made = convert(self.reference, self._checkpoint.sha256)
        if self._networks is not None:
            try:
                self._networks.put(made)
            except OSError as error:
                logger.warning("network-not-kept: it is converted again next time: %s", error)
        return made

    @cached_property
    def _networks(self) -> Networks | None:
        folder = self._how.folder
        return None if folder is None else Networks(folder, metadata.version("openvino"))

    def _torch(self, why: str, notices: tuple[str, ...] = ()) -> Built:
        embedder = self.reference
        told = f"torch {embedder.told} on {embedder.device}"
        return Built(embedder, TORCH, told, why, self._checkpoint.sha256, notices)

    def _instead(self, error: Exception) -> Built:
        """torch, where OpenVINO cannot be used."""
        reason = getattr(error, "message", str(error))
        notice = f"OpenVINO is not used for {self._name}: {reason}. torch computes."
        logger.warning("openvino-not-used: %s", notice)
        return self._torch(f"OpenVINO cannot be used: {reason}", (notice,))

    def _openvino(self, embedder: OpenVinoEmbedder, why: str) -> Built:
        return Built(embedder, OPENVINO, f"openvino {embedder.told} on cpu", why, self._checkpoint.sha256)

    def _openvino_as_set(self) -> Built:
        try:
            return self._openvino(for_this_machine(self.network, model_id=self._name), "as set")
        except ModelUnavailable as error:
            if "reference" not in self.__dict__ and not self._is_readable():
                raise
            return self._instead(error)

    def _is_readable(self) -> bool:
        """Whether the checkpoint itself can be loaded: what cannot be is no fault of OpenVINO's."""
        try:
            return self.reference is not None
        except ModelUnavailable:
            return False

    def _fastest(self) -> Built:
        """The fastest on this machine, measured where that is not known."""
        folder = self._how.folder
        if folder is None:
            return self._torch("nowhere to remember what is fastest: there is no folder of models")
        choices, machine = Choices(folder), this_machine()
        try:
            choice = choices.remembered(self._checkpoint.sha256, machine)
            if choice is None:
                with choices.alone():
                    # Another process may have measured it while this one waited.
                    choice = choices.remembered(self._checkpoint.sha256, machine) or self._measured(choices)
        except OSError as error:
            notice = f"The folder of models cannot be written ({error.strerror}), so torch is used, fastest or not."
            logger.warning("choice-not-kept: %s", notice)
            return self._torch("what is fastest could not be remembered", (notice,))
        best = choice.best
        if best.backend == TORCH:
            return self._torch(choice.why)
        try:
            plan = Plan(best.precision, best.streams)
            return self._openvino(OpenVinoEmbedder(self.network, model_id=self._name, plan=plan), choice.why)
        except ModelUnavailable as error:
            return self._instead(error)

    def _measured(self, choices: Choices) -> Choice:
        choice = measure(
            self._spec.id, self._checkpoint.sha256, this_machine(), self.reference, list(self._candidates())
        )
        choices.keep(choice)
        return choice

    def _candidates(self) -> Iterator[Candidate]:
        def maker(plan: Plan) -> Callable[[], Embedder]:
            return lambda: OpenVinoEmbedder(self.network, model_id=self._name, plan=plan)

        few = min(STREAMS, threads())
        many = min(MOST_STREAMS, threads() // 2)
        for streams in sorted({few, many} - {0}):
            for precision in ("f32", "bf16") if multiplies_bf16() else ("f32",):
                yield Candidate(OPENVINO, precision, streams, maker(Plan(precision, streams)))

    def _quantised(self) -> Built:
        """The network that was quantised for this generation on this machine, or brought here."""
        name = self._how.generation
        kept = None if self._networks is None else self._networks.get_quantised(name, self._checkpoint.sha256)
        if kept is None:
            raise NotCalibrated(
                f"The recipe of {name} says int8, and no network was quantised for it here, or it is damaged.",
                hint=f"Run `speakerdb models calibrate {name}`, or bring the folder {self._place(name)} from where it was.",
            )
        check_fits(self._spec, kept.about.architecture, kept.about.dimension)
        embedder = OpenVinoEmbedder(kept, model_id=self._name)
        told = f"{INT8} {embedder.told} on cpu, calibration {kept.digest[:8]}"
        checksum = checksum_of(self._checkpoint.sha256, kept)
        return Built(embedder, INT8, told, "its recipe says int8", checksum)

    def _place(self, generation: str) -> Path | None:
        if self._networks is None:
            return None
        return self._networks.quantised_place(generation, self._checkpoint.sha256)


def checksum_of(checkpoint: str, quantised: Network) -> str:
    """What the vectors of a quantised network go by: they depend on the checkpoint and on what it was calibrated with."""
    return hashlib.sha256(f"{checkpoint} {quantised.digest}".encode()).hexdigest()
