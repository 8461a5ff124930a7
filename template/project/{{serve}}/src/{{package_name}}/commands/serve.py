"""The command `serve`."""

import argparse
import logging
import math
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields

from ..config import locate
from ..errors import UserError
from ..serving.limits import HELP, Limits


def serve(args: argparse.Namespace) -> None:
    """Serve an exported model over HTTP, with a page to try it."""
    try:
        from ..serving.app import build
        from ..serving.server import Server
    except ImportError as error:
        raise UserError(f"{error}; install it: pip install -e '.[serve]'") from error
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger(Server.__module__.rpartition(".")[0]).setLevel(logging.INFO)
    limits = Limits(**{each.name: getattr(args, each.name) for each in fields(Limits)})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn raises it again at its end
    with suppress(KeyboardInterrupt), listen(args.host, args.port) as listening:
        hosts, samples = [args.host, *args.allow_host], locate(args.samples)
        app = build(locate(args.folder), None, args.pt2, limits, hosts, samples)
        port = listening.getsockname()[1]  # with --port 0, the system picks one
        print(f"http://{args.host}:{port} serves {args.folder}; stop with Ctrl-C", flush=True)
        Server(app).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{host}, port {port}: {reason}; set another --port") from error


def positive(kind: type[float]) -> Callable[[str], float]:
    """A type of argparse: a number above 0."""

    def number(text: str) -> float:
        if not 0 < (value := kind(text)) < math.inf:
            raise argparse.ArgumentTypeError("should be above 0")
        return value

    number.__name__ = kind.__name__  # in messages
    return number


def add_to(add: Callable[..., argparse.ArgumentParser]) -> None:
    sub = add(serve, folder={"metavar": "FOLDER", "help": "a folder that `export` wrote"})
    sub.add_argument("--host", default="127.0.0.1", help="address to listen on (only this machine)")
    sub.add_argument("--port", type=int, default=8000, help="0 picks a free one (8000)")
    names = "a name of this service besides localhost and IP addresses; can be repeated"
    sub.add_argument("--allow-host", action="append", default=[], metavar="NAME", help=names)
    samples = "files to try on the page (images/sample)"
    sub.add_argument("--samples", metavar="FOLDER", default="images/sample", help=samples)
    for each in fields(Limits):
        unit, words = HELP[each.name]
        default: float = getattr(Limits, each.name)
        flag = "--" + each.name.replace("_", "-")
        words = f"{words} ({default:g})"
        sub.add_argument(
            flag, type=positive(type(default)), default=default, metavar=unit, help=words
        )
    pt2 = "use model.pt2, not model.onnx; loading it can run code in it"
    sub.add_argument("--pt2", action="store_true", help=pt2)
