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
        raise UserError(f"{args.host}, port {args.port}: {reason}; set another --port") from error
    with listening:
        port = listening.getsockname()[1]  # with --port 0, the system picks one
        print(f"http://{args.host}:{port} serves {args.folder}; stop with Ctrl-C", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            return


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add(serve, folder={"metavar": "FOLDER", "help": "a folder that `export` wrote"})
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (only this machine)")
    sub.add_argument("--port", type=int, default=8000, help="0 picks a free one (8000)")
    most = "the largest request (10)"
    sub.add_argument("--max-megabytes", type=float, default=10.0, metavar="MB", help=most)
    pt2 = "use model.pt2, not model.onnx; loading it can run code in it"
    sub.add_argument("--pt2", action="store_true", help=pt2)
