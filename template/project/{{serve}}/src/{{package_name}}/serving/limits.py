"""What the service allows; each field is an option of `serve`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """A request that exceeds one is refused, and the reason names the option."""

    max_megabytes: float = 10.0
    max_seconds: float = 30.0
    max_memory: float = 2000.0
    max_requests: int = 100
    max_connections: int = 500
    upload_seconds: float = 30.0
    stop_seconds: float = 10.0
    workers: int = 2


HELP = {
    "max_megabytes": ("MB", "size of a request"),
    "max_seconds": ("S", "time for a prediction, and for the wait before it"),
    "max_memory": ("MB", "memory that a prediction may take, on Linux"),
    "max_requests": ("N", "requests for predictions at a time, waiting ones included"),
    "max_connections": ("N", "open connections"),
    "upload_seconds": ("S", "time for a request to arrive, and for its response to be read"),
    "stop_seconds": ("S", "time for unfinished requests when the server has to stop"),
    "workers": ("N", "processes that predict, each with the model"),
}
