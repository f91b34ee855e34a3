"""`speakerdb` for the pages' shells, without importing everything for each command.

A server imports the program once and forks for each command; the child is the command line and nothing else. What the
shell finds on its path is a small client: it hands over its arguments, folder, environment and standard streams, and ends
with the command's exit status. The installed program itself is run by `tests/packaging` and `tests/acceptance`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as link:
    link.connect({address!r})
    job = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode() + b"\\n"
    link.sendall(job[socket.send_fds(link, [job], [0, 1, 2]):])
    code = link.recv(16)
sys.exit(int(code) if code else 70)
"""


def install(folder: Path, address: Path) -> None:
    """Put the client into a folder, as `speakerdb`."""
    client = folder / "speakerdb"
    client.write_text(CLIENT.format(python=sys.executable, address=str(address)), encoding="utf-8")
    client.chmod(0o755)


def serve(address: str, *, models: bool) -> None:
    """Answer until the process is ended. With `models` what real models need is imported before, too."""
    import alembic.command
    import alembic.config

    import speakerdb.media
    import speakerdb.models.spectral
    import speakerdb.service
    from speakerdb.cli.main import main as command_line

    if models:
        from speakerdb.models.pyannote import import_model_class, quiet

        import_model_class(telemetry=False)
        with quiet():
            import pyannote.audio.pipelines  # noqa: F401
    del alembic, speakerdb
    gc.freeze()  # or every child walks over all of it when it ends
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who answer
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        print("ready", flush=True)
        while True:
            link, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _answer(link, command_line)
            link.close()


def _answer(link: socket.socket, command_line: object) -> None:
    text, streams, _, _ = socket.recv_fds(link, 1 << 16, 3)
    while not text.endswith(b"\n"):
        text += link.recv(1 << 16)
    args, folder, environment = json.loads(text)
    child = os.fork()
    if child == 0:
        link.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        assert callable(command_line)
        sys.exit(command_line(args))
    for stream in streams:
        os.close(stream)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if select.select([link], [], [], 0.005)[0]:  # the client is gone: somebody ended the command
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            os._exit(0)
    with contextlib.suppress(OSError):
        link.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], models="--models" in sys.argv)
