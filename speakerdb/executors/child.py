"""What runs in a worker process: each task in a thread of its own, for as long as whoever started the process is there."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import threading
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler

from speakerdb.errors import ExtractionError
from speakerdb.executors.telling import told

REQUEST = struct.Struct("!Q")
"""The task's number; its function and itself, pickled, follow."""
ANSWER = struct.Struct("!Qc")
"""The task's number, and what follows: nothing (it has begun), or, pickled, how far it is, what it gave, or the error that
it raised."""
BEGUN, TOLD, GAVE, RAISED = b"b", b"t", b"g", b"r"


def serve(connection: Connection, threads: int | None, gpu: str | None) -> None:
    """Read tasks and answer them, until the other end is closed: then this process ends at once, whatever it is at.

    This thread does nothing else, so it hears of the other end's death also while a decoder is stuck. Nobody would read
    what is being worked on then.
    """
    _prepare(threads, gpu)
    sending = threading.Lock()
    while True:
        try:
            request = connection.recv_bytes()
        except (EOFError, OSError):
            os._exit(0)
        thread = threading.Thread(target=_work, args=(connection, sending, request), daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # there is no memory for a thread
            _send(connection, sending, request, RAISED, _packed(MemoryError(str(error))))


def _prepare(threads: int | None, gpu: str | None) -> None:
    """Before anything is imported that computes: `threads` for it to use (None: as many as it likes), and the one GPU that it
    is to see (None: all)."""
    # Threads that wait for each other by spinning made a model up to three times slower beside another busy process, and no
    # faster on an idle machine (two cores).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if threads is not None:
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    # Ctrl-C reaches the whole group; the coordinator decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(connection: Connection, sending: threading.Lock, request: bytes) -> None:
    try:
        function, task = pickle.loads(memoryview(request)[REQUEST.size :])  # noqa: S301  our parent's
        _send(connection, sending, request, BEGUN, b"")
        with told(lambda value: _send(connection, sending, request, TOLD, _packed(value))):
            what, answer = GAVE, _packed(function(task))
    except BaseException as error:  # noqa: BLE001  a thread that ends without an answer would be waited for; SystemExit, too
        what, answer = RAISED, _packed(_portable(error))
    _send(connection, sending, request, what, answer)


def _packed(value: object) -> bytes:
    return bytes(ForkingPickler.dumps(value))


def _portable(error: BaseException) -> BaseException:
    """The error, or one that says the same, where it could not be read on the other side."""
    if isinstance(error, MemoryError):
        return MemoryError(str(error))  # a library's own class of it may not survive the way
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  what was dumped here
    except Exception:  # noqa: BLE001  pickling runs the error's own code, which may raise anything
        return ExtractionError(f"{type(error).__name__}: {error}")
    return error


def _send(connection: Connection, sending: threading.Lock, request: bytes, what: bytes, packed: bytes) -> None:
    (number,) = REQUEST.unpack_from(request)
    with sending, suppress(OSError):  # the other end is gone, and this process with it in a moment
        connection.send_bytes(ANSWER.pack(number, what) + packed)
