"""Decides which requests are accepted, and limits the time and size of uploads and responses."""

import asyncio
import ipaddress
import logging
import math
import re
import secrets
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .workers import Refused

LOG = logging.getLogger(__name__)
GONE = 499  # nginx's status, in the log only, for a client that left
SLOW = 1.0  # seconds after which a new request may replace an upload
QUIET = ("/", "/health", "/ready")  # not logged if the status is 200


class Guard:
    """ASGI middleware that refuses requests, and stops those that exceed a limit."""

    def __init__(self, limits: Limits, hosts: Iterable[str]) -> None:
        self.limits = limits
        self.hosts = {"localhost", *map(str.lower, hosts)}
        self.active = 0  # requests for predictions
        self.uploads: dict[Exchange, None] = {}  # requests still arriving, the oldest first
        self.clocks = set[asyncio.Timeout]()
        self.end = math.inf  # of all requests: finite once the server has to stop

    def around(self, app: ASGIApp) -> "Guard":
        """The guard itself, with the app that it guards."""
        self.app = app
        return self

    @property
    def ready(self) -> bool:
        """Whether the next request for a prediction is accepted."""
        return self.end == math.inf and self.active < self.limits.max_requests

    def stop(self) -> None:
        """Let no request last longer than `stop_seconds` from now."""
        self.end = asyncio.get_running_loop().time() + self.limits.stop_seconds
        for clock in self.clocks:
            clock.reschedule(min(clock.when() or math.inf, self.end))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Exchange(self, scope, receive, send)
        try:
            self.check(scope, Headers(scope=scope))
            if (scope["method"], scope["path"]) == ("POST", "/predict"):
                await self.predict(request)
            else:
                await request.run(self.app)
        except Refused as error:
            await request.refuse(error)
        except Exception:
            LOG.exception("%s failed", request.id)
            await request.refuse(Refused(500, "the server failed; its log has the reason"))
        finally:
            request.log()

    def check(self, scope: Scope, headers: Headers) -> None:
        """Raise Refused for a foreign host name, a page of another site, or a too large request."""
        host = headers.get("host", "")
        if not (host == "" or host_name(host) in self.hosts or is_address(host_name(host))):
            what = f"this service has no name {host_name(host)[:80]!r}"
            raise Refused(400, f"{what}; to give it one, see --allow-host")
        if scope["method"] not in ("GET", "HEAD", "OPTIONS") and is_foreign(headers):
            raise Refused(403, "pages of other sites may not send requests to this service")
        size = headers.get("content-length", "")
        if size.isdecimal() and float(size) > self.limits.max_megabytes * 1e6:
            raise too_large(self.limits)

    async def predict(self, request: "Exchange") -> None:
        """Accept a request for a prediction; if there are many, it replaces the slowest upload."""
        if self.active >= self.limits.max_requests:
            what = f"the server is busy with {self.active} requests"
            busy = Refused(503, f"{what}; try again later, or see --max-requests")
            slowest = next(iter(self.uploads), request)
            if slowest.seconds < SLOW:
                raise busy
            slowest.allow(0, busy)
            del self.uploads[slowest]
        self.active += 1
        self.uploads[request] = None
        try:
            await request.run(self.app)
        finally:
            self.active -= 1
            self.uploads.pop(request, None)


class Exchange:
    """A request and its response: their time and size, and what the log says of them."""

    def __init__(self, guard: Guard, scope: Scope, receive: Receive, send: Send) -> None:
        self.guard, self.limits, self.scope = guard, guard.limits, scope
        self.receive_any, self.send_any = receive, send
        given = Headers(scope=scope).get("x-request-id", "")
        self.id = given if re.fullmatch(r"[\w.-]{1,64}", given, re.ASCII) else secrets.token_hex(8)
        self.began, self.size, self.status, self.reason = time.perf_counter(), 0, 0, ""
        self.watching: asyncio.Task[None] | None = None

    @property
    def seconds(self) -> float:
        """The time since the request began."""
        return time.perf_counter() - self.began

    async def run(self, app: ASGIApp) -> None:
        """Have the app answer; Refused if that is stopped by a limit."""
        try:
            async with asyncio.timeout(None) as self.clock:
                self.guard.clocks.add(self.clock)
                seconds = self.limits.upload_seconds
                what = f"the request took more than {seconds:g} s to arrive; see --upload-seconds"
                self.allow(seconds, Refused(408, what))
                await app(self.scope, self.receive, self.send)
        except TimeoutError:
            if not self.clock.expired():
                raise
            if self.guard.end < math.inf:
                self.late = Refused(503, "the server is stopping; try again later")
            raise self.late from None
        finally:
            self.guard.clocks.discard(self.clock)
            self.unwatch()

    def allow(self, seconds: float, late: Refused) -> None:
        """Set the time from now, after which the app is stopped for this reason."""
        when = min(asyncio.get_running_loop().time() + seconds, self.guard.end)
        self.clock.reschedule(None if when == math.inf else when)
        self.late = late

    async def receive(self) -> Message:
        """The next part of the request; after the last part, the workers' limits apply."""
        message = await self.receive_any()
        self.size += len(message.get("body", b""))
        if self.size > self.limits.max_megabytes * 1e6:  # FastAPI would replace an exception
            self.allow(0, too_large(self.limits))
            await asyncio.Future()
        if message["type"] == "http.request" and not message.get("more_body"):
            self.guard.uploads.pop(self, None)
            self.allow(math.inf, Refused(GONE, "the client left"))
            self.watching = asyncio.create_task(self.watch())
        return message

    async def watch(self) -> None:
        """Stop the app when the client leaves."""
        while (await self.receive_any())["type"] != "http.disconnect":
            pass
        self.allow(0, self.late)

    def unwatch(self) -> None:
        if self.watching:
            self.watching.cancel()

    async def send(self, message: Message) -> None:
        """Send a part of the response, with the headers of all responses."""
        if message["type"] == "http.response.start":
            self.unwatch()
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers["X-Request-ID"] = self.id
            if not self.reason:
                seconds = self.limits.upload_seconds
                what = f"the client took more than {seconds:g} s to read; see --upload-seconds"
                self.allow(seconds, Refused(GONE, what))
        await self.send_any(message)

    async def refuse(self, error: Refused) -> None:
        """Respond with the reason, if the response has not begun."""
        self.reason = error.reason
        if error.status == GONE:
            self.status = GONE
        elif not self.status:
            headers = {"Retry-After": "1"} if error.status == 503 else None
            response = JSONResponse({"detail": error.reason}, error.status, headers)
            await response(self.scope, self.receive, self.send)

    def log(self) -> None:
        path = self.scope["raw_path"].decode("ascii", "replace")[:100]
        if path in QUIET and self.status == 200:
            return
        client = (self.scope.get("client") or ["-"])[0]
        line = f"{client} {self.scope['method']} {path} {self.status} {self.size} bytes"
        LOG.info("%s %s %.3f s %s", self.id, line, self.seconds, self.reason)


def too_large(limits: Limits) -> Refused:
    most = f"the request has more than {limits.max_megabytes:g} MB"
    return Refused(413, f"{most}; send a smaller file, or see --max-megabytes")


def is_foreign(headers: Headers) -> bool:
    """Whether a page of another site sends this: by the rule of Go's CrossOriginProtection."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")  # pages can't set these
    if site:
        return site not in ("same-origin", "none")
    return origin is not None and origin.partition("//")[2] != headers.get("host")


def host_name(host: str) -> str:
    """The name in a Host header, in lower case and without the port; '' if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether it is an IP address, which no DNS entry of another site can stand for."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
