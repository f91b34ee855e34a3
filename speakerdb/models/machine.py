"""What torch and pyannote.audio say of themselves on this machine. Run as a program of its own by `doctor`:

    python -m speakerdb.models.machine

An import that crashes, or never ends, then ends this program and not the one that asks. It prints one JSON object a line,
each as soon as it is known: ``step``, and what was found, or ``error`` with the class and the first line of what it says.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any

TORCH, CUDA, TORCHAUDIO, PYANNOTE = "torch", "cuda", "torchaudio", "pyannote.audio"
STEPS = (TORCH, CUDA, TORCHAUDIO, PYANNOTE)


def _torch() -> dict[str, Any]:
    import torch

    return {"version": torch.__version__, "built_for": torch.version.cuda}


def _cuda() -> dict[str, Any]:
    import torch

    with warnings.catch_warnings(record=True) as said:
        # A driver that is too old is only a warning of torch's.
        warnings.simplefilter("always")
        available = torch.cuda.is_available()
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())] if available else []
    driver = os.path.exists("/proc/driver/nvidia/version")
    return {
        "available": available,
        "devices": devices,
        "built_for": torch.version.cuda,
        "driver": driver,
        "said": [_first_line(warning.message) for warning in said],
    }


def _torchaudio() -> dict[str, Any]:
    import torchaudio

    return {"version": torchaudio.__version__}


def _pyannote() -> dict[str, Any]:
    import pyannote.audio
    from pyannote.audio.models.embedding import WeSpeakerResNet34, XVectorSincNet  # noqa: F401 - that they are there
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    return {"version": pyannote.audio.__version__, "telemetry": bool(is_metrics_enabled())}


def _first_line(said: object) -> str:
    return (str(said).splitlines() or [type(said).__name__])[0].strip()[:500]


def main() -> None:
    """Every step in its order, a failed one too."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the libraries print is no answer of ours
    warnings.simplefilter("ignore")
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        TORCH: _torch, CUDA: _cuda, TORCHAUDIO: _torchaudio, PYANNOTE: _pyannote,
    }  # fmt: skip
    for name, step in steps.items():
        try:
            found = {"step": name, **step()}
        except Exception as error:  # noqa: BLE001 - whatever an import raises is what was asked for
            found = {"step": name, "error": type(error).__name__, "message": _first_line(error)}
        out.write(json.dumps(found) + "\n")
        out.flush()
    # pyannote's exporter of telemetry is a thread that would be waited for.
    os._exit(0)


if __name__ == "__main__":
    main()
