"""Nothing reports its use: a fresh process in an empty home converts, quantises, measures and embeds, with every socket and
every look-up recorded and refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.models

# Runs in a process of its own: `sys.argv` has the folder of models, that of the stand-in checkpoint and its SHA-256.
WORK = """
import json, os, socket, sys

reached = []

def watch(event, arguments):
    # Audit hooks see what any library does, in Python or through it, and cannot be taken off again.
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.connect", "socket.sendto",
                 "socket.sendmsg", "urllib.Request", "http.client.connect"):
        if event.startswith("socket.") and arguments and getattr(arguments[0], "family", None) == socket.AF_UNIX:
            return
        reached.append(f"{event} {arguments[1:]!r}")
        raise OSError("refused by the test")

sys.addaudithook(watch)
from pathlib import Path
from importlib import metadata
import numpy as np
from speakerdb.generations import RECIPES, V4
from speakerdb.models.networks import Networks
from speakerdb.models.quantising import quantise
from speakerdb.models.registry import load_embedder
from dataclasses import replace
from speakerdb.models import choosing

choosing.ROUND_SECONDS, choosing.ROUNDS = 0.0, 1
folder, checkpoint, digest = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
spec = replace(V4.model, id="standin", revision=None, sha256=digest, sources=(checkpoint,))
time = np.arange(16000) / 16000
voices = [sum(np.sin(2 * np.pi * (100 + 20 * n) * k * time) / k for k in range(1, 20)).astype(np.float32) / 10 for n in range(4)]
told = {}
loaded = load_embedder(spec, V4.recipe, device="cpu", backend="auto", folder=folder)
told["auto"] = loaded.embedder.embed(voices).shape
networks = Networks(folder, metadata.version("openvino"))
networks.put(quantise(networks.get(digest), voices, {}), "v4")
loaded = load_embedder(spec, RECIPES["spread-30-int8"], generation="v4", device="cpu", backend="auto", folder=folder)
told["int8"] = loaded.embedder.embed(voices).shape
told["modules"] = sorted(name for name in sys.modules if "openvino_telemetry" in name and sys.modules[name] is not None)
told["loaded"] = [name in sys.modules for name in ("openvino", "nncf", "pyannote.audio")]
told["reached"] = list(reached)
if len(sys.argv) > 4:
    try:
        socket.create_connection(("192.0.2.1", 9))
    except OSError:
        pass
    told["reached"] = list(reached)
print(json.dumps(told))
sys.stdout.flush()
os._exit(0)
"""


def run(home: Path, *words: str) -> dict[str, object]:
    # Nothing that keeps a library from reporting is set: not the switches of the tests, and not CI, which some look at.
    switches = ("PYANNOTE_METRICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "NNCF_CI")
    environment = {name: value for name, value in os.environ.items() if name not in switches}
    environment |= {"HOME": str(home), "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORK, *words],
        env=environment, cwd=home, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_nobody_is_told(tmp_path: Path, standin_models: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    checkpoint = standin_models / "standin-wespeaker-resnet34"
    digest = "86d6ade817018360fad55191790104d7a5e215fae6ebdd8b36133844a815608c"
    told = run(home, str(tmp_path / "models"), str(checkpoint), digest, "reach out")
    assert told["loaded"] == [True, True, True]
    assert (told["auto"], told["int8"]) == ([4, 256], [4, 256])
    assert told["modules"] == []
    # What the program itself tried at its end, to show that it is seen; and nothing before it.
    assert [str(each).partition(" ")[0] for each in told["reached"]] == ["socket.getaddrinfo"], told["reached"]  # type: ignore[attr-defined]
    left = {path.name for path in home.rglob("*") if path.is_file()}
    assert not {name for name in left if "telemetry" in name or "openvino_ga" in name or "client" in name}, left
    assert not (home / "intel").exists()
    assert not list(home.glob("*ntel*"))
