"""From a definition to an embedder; what importing imports; and that nothing phones home."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from speakerdb.errors import ConfigurationError
from speakerdb.models.registry import STAND_INS, load_embedder
from speakerdb.types import ModelSpec


def python(code: str, *arguments: str, cwd: Path) -> dict[str, Any]:
    """Runs `code` in a fresh interpreter with warnings as errors; it prints one JSON object as its last line."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments], capture_output=True, text=True, cwd=cwd, timeout=240
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["stderr"] = done.stderr
    return result


def test_spectral_has_a_version_for_a_checksum() -> None:
    loaded = load_embedder(ModelSpec("spectral", "spectral-a", 512))
    assert loaded.checksum == "spectral-a/1"
    assert loaded.embedder.dimension == 512
    assert (loaded.source, loaded.attempts, loaded.notices) == ("built-in", (), ())
    assert "stand-in" in loaded.description
    other = load_embedder(ModelSpec("spectral", "spectral-b", 256))
    assert other.checksum != loaded.checksum


def test_an_unknown_family_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_embedder(ModelSpec("onnx", "x", 256))
    assert "pyannote" in caught.value.hint


def test_the_stand_ins_are_the_files_of_this_repository(standin_v3: ModelSpec, standin_v4: ModelSpec) -> None:
    assert {standin_v3.sha256: standin_v3.id, standin_v4.sha256: standin_v4.id} == STAND_INS


def test_importing_and_spectral_need_neither_torch_nor_the_hub(tmp_path: Path) -> None:
    code = """
import json, sys
import numpy as np
from speakerdb.models.registry import load_embedder
from speakerdb.types import ModelSpec
load_embedder(ModelSpec("spectral", "spectral-a", 512)).embedder.embed([np.ones(16000, dtype=np.float32)])
print(json.dumps({"heavy": [m for m in ("torch", "pyannote", "huggingface_hub", "lightning") if m in sys.modules]}))
"""
    assert python(code, cwd=tmp_path)["heavy"] == []


def test_a_missing_path_does_not_import_the_hub(tmp_path: Path) -> None:
    code = """
import json, sys
from speakerdb.errors import ModelUnavailable
from speakerdb.models.registry import load_embedder
from speakerdb.types import ModelSpec
try:
    load_embedder(ModelSpec("pyannote", "pyannote/embedding", 512, sources=("pyannote/embedding",)))
except ModelUnavailable as error:
    print(json.dumps({"message": error.message, "hub": "huggingface_hub" in sys.modules}))
"""
    result = python(code, cwd=tmp_path)
    assert "no such file" in result["message"]
    assert result["hub"] is False


WATCHED = """
import json, os, socket, sys, threading
reached = []
def outside(host):
    return str(host) not in ("localhost", "127.0.0.1", "::1", "None", "")
def watch(name):
    real = getattr(socket.socket, name)
    def watched(self, *arguments):
        if self.family in (socket.AF_INET, socket.AF_INET6) and outside(arguments[-1][0]):
            reached.append([name, str(arguments[-1])])
            raise OSError("refused by the test")
        return real(self, *arguments)
    setattr(socket.socket, name, watched)
for name in ("connect", "connect_ex", "sendto"):
    watch(name)
def getaddrinfo(host, *arguments, **options):
    reached.append(["getaddrinfo", str(host)])
    raise socket.gaierror("refused by the test")
socket.getaddrinfo = getaddrinfo
for name in ("PYANNOTE_METRICS_ENABLED", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.pop(name, None)
os.environ["HF_TOKEN"] = "hf_secret"
import numpy as np
from speakerdb.models.registry import load_embedder
from speakerdb.types import ModelSpec
rows = []
for text in sys.argv[2:]:
    spec = json.loads(text)
    spec["sources"] = tuple(spec["sources"])
    loaded = load_embedder(ModelSpec(**spec), device="auto", telemetry=sys.argv[1] == "on")
    sound = np.sin(np.arange(16000) * 0.1).astype(np.float32)
    rows.append(loaded.embedder.embed([sound, sound[:9000]]).shape)
if sys.argv[1] == "on":
    from pyannote.audio.telemetry import metrics
    metrics.provider.force_flush(5000)
print(json.dumps({"reached": reached, "rows": rows, "threads": [t.name for t in threading.enumerate()],
                  "telemetry": os.environ["PYANNOTE_METRICS_ENABLED"]}))
"""


@pytest.mark.models
def test_nothing_phones_home_while_models_load_and_embed(
    tmp_path: Path, standin_v3: ModelSpec, standin_v4: ModelSpec
) -> None:
    """Every connection and look-up outside loopback is refused and recorded; there must be none, nor a waiting thread.

    It also shows that loading prints no warnings: they are errors there, and standard error stays empty.
    """
    # The cache comes first, so that the hub's library is imported and used as well.
    specs = [replace(spec, sources=("cache", *spec.sources)) for spec in (standin_v4, standin_v3)]
    result = python(WATCHED, "off", *(json.dumps(asdict(spec)) for spec in specs), cwd=tmp_path)
    assert result["reached"] == []
    assert result["rows"] == [[2, 256], [2, 512]]
    assert result["telemetry"] == "0"
    assert not [name for name in result["threads"] if "otel" in name.lower()]
    assert result["stderr"] == ""


@pytest.mark.models
def test_telemetry_is_sent_only_where_it_was_switched_on(tmp_path: Path, standin_v3: ModelSpec) -> None:
    """Shows too that the recorder above can see it."""
    result = python(WATCHED, "on", json.dumps(asdict(standin_v3)), cwd=tmp_path)
    assert result["telemetry"] == "1"
    assert any("pyannote" in host for _, host in result["reached"])
