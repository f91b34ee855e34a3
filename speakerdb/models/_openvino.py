"""The only place that imports OpenVINO and NNCF: with the reporting of their use switched off before.

Both report through the package `openvino_telemetry`, which asks nobody first and makes a file with a number of the user's in
the home folder. It cannot be imported once this was called, and both then do without it.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from speakerdb.errors import ConfigurationError

TELEMETRY = "openvino_telemetry"


def import_openvino() -> Any:
    """`openvino`. `ConfigurationError` where it cannot be imported."""
    _switch_off()
    try:
        import openvino
    except (ImportError, OSError) as error:
        raise ConfigurationError(
            f"OpenVINO cannot be imported here ({type(error).__name__}: {error}).",
            hint="`pip install --force-reinstall openvino`, or set `extractor.backend` to torch.",
        ) from error
    return openvino


def import_nncf() -> Any:
    """`nncf`, which quantises networks. `ConfigurationError` where it is not installed."""
    import_openvino()
    try:
        import nncf
    except (ImportError, OSError) as error:
        raise ConfigurationError(
            f"NNCF, which quantises networks, cannot be imported here ({type(error).__name__}: {error}).",
            hint="Install it: `pip install 'speakerdb[int8]'`.",
        ) from error
    return nncf


def _switch_off() -> None:
    # A module that is None in this table cannot be imported: `import` raises ModuleNotFoundError.
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
