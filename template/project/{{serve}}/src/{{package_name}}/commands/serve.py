"""The command `serve`."""

import argparse
import socket
from collections.abc import Callable

from ..config import locate
from ..errors import UserError


def serve(args: argparse.Namespace) -> None:
    """Serve an exported model over HTTP, with a page to try it."""
    try:
        import uvicorn

        from ..serving.app import build
    except ImportError as error:
        raise UserError(f"{error}; install it: pip install -e '.[serve]'") from error
    app = build(locate(args.folder), args.max_megabytes, args.pt2)
    try:
        listening = socket.create_server((args.host, args.port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{args.host}, port {args.port}: {reason}; name another --port") from error
    with listening:
        port = listening.getsockname()[1]  # --port 0 asks for any
        print(f"http://{args.host}:{port} serves {args.folder}; Ctrl-C ends it", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add(serve, folder={"metavar": "FOLDER", "help": "what `export` wrote"})
    sub.add_argument("--host", default="127.0.0.1", help="where to listen (this machine alone)")
    sub.add_argument("--port", type=int, default=8000, help="0 for any that is free (8000)")
    most = "the most that a request may have (10)"
    sub.add_argument("--max-megabytes", type=float, default=10.0, metavar="MB", help=most)
    pt2 = "take model.pt2, not model.onnx; loading one can run code that is in it"
    sub.add_argument("--pt2", action="store_true", help=pt2)
