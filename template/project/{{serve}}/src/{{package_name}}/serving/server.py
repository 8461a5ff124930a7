"""The HTTP server: uvicorn, with limits for connections that send no whole request."""

import asyncio
import socket
from collections.abc import Iterable

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from .guard import Guard

BACKLOG = 100  # connections that asyncio accepts before it handles the first of them


class Connection(H11Protocol):
    """A connection that records since when it is idle."""

    most: int  # open connections
    since: float

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.since = self.loop.time()
        if len(self.connections) > self.most:
            longest = min(idle(self.connections), key=lambda each: each.since, default=self)
            longest.transport.abort()

    @property
    def is_idle(self) -> bool:
        """Whether no complete request header has arrived, or the connection is to be closed."""
        return self.cycle is None or self.cycle.response_complete or self.transport.is_closing()

    def on_response_complete(self) -> None:
        self.since = self.loop.time()
        super().on_response_complete()


def idle(connections: Iterable[object]) -> list[Connection]:
    return [each for each in connections if isinstance(each, Connection) and each.is_idle]


class Server(uvicorn.Server):
    """Closes idle connections in time, and tells the guard when it has to stop."""

    def __init__(self, app: FastAPI) -> None:
        self.guard: Guard = app.state.guard
        limits = self.guard.limits
        super().__init__(
            uvicorn.Config(
                app,
                http=type("Connection", (Connection,), {"most": limits.max_connections}),
                ws="none",
                log_level="warning",
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=round(limits.stop_seconds) + 5,  # after the guard's
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for each in sockets or []:  # more wait in the kernel; asyncio accepts BACKLOG at a time
            each.listen(1024)

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0:
            latest = asyncio.get_running_loop().time() - self.guard.limits.upload_seconds
            for each in idle(self.server_state.connections):
                if each.since < latest:
                    each.transport.abort()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.guard.stop()
        await super().shutdown(sockets)
