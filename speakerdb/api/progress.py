"""A migration's progress as it goes: server-sent events, and a WebSocket. As JSON it is `/v1/migrations/current`.

A stream may stay open for days, so who follows is asked for again at each step: a token that was revoked or has expired hears
nothing more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi import FastAPI, Request, WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from speakerdb.api import callers
from speakerdb.api.door import log_unexpected, refuse
from speakerdb.api.following import Follow
from speakerdb.api.house import house_of
from speakerdb.api.problems import Refusal
from speakerdb.api.route import Routes
from speakerdb.errors import SpeakerDBError
from speakerdb.reports import as_json
from speakerdb.reports.access import Role

routes = Routes("migrations")

SOCKET = "/v1/migrations/current/socket"
GOING_AWAY = 1001
MAY_NOT = 1008
BROKEN = 1011
TRY_AGAIN = 1013


@routes.get(
    "/migrations/current/events", Role.READER, "migrate status", response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "An event `progress` every two seconds."}},
)  # fmt: skip
async def follow_migration(request: Request) -> StreamingResponse:
    """Where the migration stands, again and again, as server-sent events: `data` is that of `/v1/migrations/current`."""
    steps = house_of(request).following.steps()
    first = await anext(steps)  # what is wrong is told before the stream begins

    async def events() -> AsyncIterator[bytes]:
        try:
            yield _event(first)
            async for step in steps:
                await _still(request)
                yield _event(step)
        except (Refusal, SpeakerDBError) as error:
            yield b"event: error\ndata: " + orjson.dumps({"code": error.code}) + b"\n\n"
        finally:
            await steps.aclose()

    return StreamingResponse(events(), media_type="text/event-stream")


def add_socket(app: FastAPI) -> None:
    """The WebSocket. It tells the same as the server-sent events, a JSON document a message, and hears nothing."""
    app.router.add_api_websocket_route(SOCKET, _socket)


async def _socket(websocket: WebSocket) -> None:
    house = house_of(websocket)
    try:
        await _still(websocket)
        steps = house.following.steps()
        first = await anext(steps)
    except (Refusal, SpeakerDBError) as error:
        await refuse(error, websocket.scope, websocket.receive, websocket._send)
        return
    try:
        await websocket.accept()
        await _tell(websocket, first)
        async for step in steps:
            await _still(websocket)
            await _tell(websocket, step)
    except WebSocketDisconnect:
        return  # they have left
    except (Refusal, SpeakerDBError) as error:
        await websocket.close(_why_closed(error), error.code)
    except Exception as error:  # noqa: BLE001 - the last door, as of every route
        log_unexpected(websocket.scope, error)
        await websocket.close(BROKEN)
    finally:
        await steps.aclose()


async def _still(connection: HTTPConnection) -> None:
    """`Refusal` for one who may not follow, or may not any more."""
    callers.require(await house_of(connection).caller(connection), Role.READER)


def _why_closed(error: Refusal | SpeakerDBError) -> int:
    if error.code == "stopping":
        return GOING_AWAY
    return MAY_NOT if getattr(error, "status", None) in (401, 403) else TRY_AGAIN


async def _tell(websocket: WebSocket, step: Follow) -> None:
    await websocket.send_text(orjson.dumps(_data(step)).decode())


def _event(step: Follow) -> bytes:
    return b"event: progress\nid: %d\ndata: " % step.at + orjson.dumps(_data(step)) + b"\n\n"


def _data(step: Follow) -> object:
    return as_json({"at": step.at, "migration": step.migration})
