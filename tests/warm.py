"""A server that has already imported torch, so that a project's command starts in milliseconds in its own process.

`Server` starts a process that imports what projects import, or what Copier does, and forks it for each command. The
command starts with these modules loaded, and has its own folder, environment, arguments, streams, signals and exit
status. Tests of the start itself use `sys.executable`; so do all tests on systems without a reliable `fork`
(`AVAILABLE`).
As a program, this file forwards a command to a server; it replaces Python in shell scripts (`Server.python`).
"""

import _imp
import atexit
import builtins
import contextlib
import gc
import hashlib
import importlib.machinery
import io
import json
import marshal
import os
import random
import runpy
import select
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NoReturn

AVAILABLE = sys.platform == "linux"
MODULES = [
    *("torch", "torch._dynamo", "torch.profiler", "torch.utils.data", "torch.utils.flop_counter", "torch.nn.parallel"),
    *("torch.distributed.checkpoint.state_dict", "torch.distributed.fsdp"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_agg", "mpl_toolkits.axes_grid1"),
    *("torch.distributed.tensor.experimental", "torch.utils.serialization.config", "torch.profiler._cupti_monitor"),
    *("PIL.Image", "PIL.PngImagePlugin", "PIL.ImageDraw", "PIL.ImageOps", "yaml", "pytest"),
    *("pydantic", "pydantic.main", "pydantic.types", "pydantic.plugin._loader"),  # torch imports them late
    *("IPython.core.interactiveshell", "nbformat", "onnxscript", "onnxruntime"),
    *("optuna.storages._rdb.models", "optuna.samplers._tpe.sampler", "sqlalchemy.dialects.sqlite", "alembic.command"),
]
CACHE = Path(__file__).resolve().parents[1] / "build" / "renders"  # see renders.py
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
OPTIONS = {"-P": "PYTHONSAFEPATH", "-u": "PYTHONUNBUFFERED"}


# --- in the server ---


def keep_bytecode() -> None:
    """Compile each source once for all processes: `.pyc` files would not help, since each test copies its project."""
    compile_source = importlib.machinery.SourceFileLoader.source_to_code

    def source_to_code(self: Any, data: Any, path: Any, **options: Any) -> types.CodeType:
        return kept(hashlib.sha256(data).hexdigest(), str(path), lambda: compile_source(self, data, path, **options))

    importlib.machinery.SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign]


def kept(source: str, path: str, compiled: Callable[[], types.CodeType]) -> types.CodeType:
    """The code of a source at this path, compiled once for all processes and later runs of the tests."""
    place = CACHE / (hashlib.sha256((sys.version + source).encode()).hexdigest()[:24] + ".code")
    with contextlib.suppress(FileNotFoundError):
        code: types.CodeType = marshal.loads(place.read_bytes())
        _imp._fix_co_filename(code, path)  # type: ignore[attr-defined] # as `import` does if a file was moved
        return code
    code = compiled()
    CACHE.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}-{os.getpid()}")
    partial.write_bytes(marshal.dumps(code))
    partial.rename(place)
    return code


def serve(listener: socket.socket, modules: str) -> None:
    """Run the command of each connection in a fork, until standard input ends."""
    for name in MODULES if modules == "project" else ["copier._cli"]:
        with contextlib.suppress(ImportError):  # from an extra that is not installed here
            importlib.import_module(name)
    assert threading.active_count() == 1, "a fork keeps only the thread that forks"
    keep_bytecode()
    if modules == "copier":
        renders = importlib.import_module("renders")  # not at the top: this file also starts each stand-in for Python
        renders.jinja2.Environment.compile = renders.compiled
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # for objects of these modules: most of a short command's time
    gc.collect()
    gc.freeze()
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
    running: dict[socket.socket, int] = {}
    selector = selectors.DefaultSelector()
    for source in (listener, woken, 0):
        selector.register(source, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:  # the tests have ended
                for pid in running.values():
                    os.kill(pid, signal.SIGKILL)
                return
            if key.fileobj is listener:
                connection = listener.accept()[0]
                message, files, *_ = socket.recv_fds(connection, 1 << 20, 3)
                while not message.endswith(b"\n"):
                    message += connection.recv(1 << 20)
                pid = os.fork()
                if not pid:
                    run_request(json.loads(message), files)
                for file in files:
                    os.close(file)
                running[connection] = pid
                selector.register(connection, selectors.EVENT_READ)
                connection.sendall(b"%d\n" % pid)
            elif key.fileobj == woken:
                os.read(woken, 1 << 16)
            elif isinstance(key.fileobj, socket.socket):  # the caller has closed it
                selector.unregister(key.fileobj)
                os.kill(running[key.fileobj], signal.SIGKILL)
        for connection, pid in list(running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del running[connection]
                with contextlib.suppress(KeyError):
                    selector.unregister(connection)
                with contextlib.suppress(OSError), connection:
                    connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def run_request(request: dict[str, Any], files: list[int]) -> NoReturn:
    """Run a command in this fork as a new interpreter would."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if request["session"]:
        os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 1024)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin, sys.stdout, sys.stderr = open(0, closefd=False), stream(1), stream(2)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    tempfile.tempdir = None
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    if plumbum := sys.modules.get("plumbum.machines.local"):
        plumbum.LocalMachine.env = plumbum.LocalEnv()  # a copy of the environment
    if os.environ.get("SKETCH"):
        importlib.import_module("sketch")
    sys.executable = os.environ.get("WARM_EXECUTABLE", sys.executable)
    how, *arguments = request["command"]
    first = {"-c": "", "-m": request["cwd"]}.get(how, str(Path(how).resolve().parent))
    paths = [
        *([] if os.environ.get("PYTHONSAFEPATH") or Path(how).is_dir() else [first]),  # `runpy` adds a folder itself
        *os.environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
    sys.path[:1] = paths if paths[-1] else paths[:-1]
    importlib.invalidate_caches()
    status = 0
    try:
        if how == "-m":
            sys.argv = arguments
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        elif how == "-c":
            sys.argv = ["-c", *arguments[1:]]
            module = sys.modules["__main__"] = types.ModuleType("__main__")
            module.__dict__["__builtins__"] = builtins
            exec(compile(arguments[0], "<string>", "exec"), module.__dict__)
        else:
            sys.argv = [how, *arguments]
            runpy.run_path(os.path.abspath(how), run_name="__main__")
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if not isinstance(end.code, int | None):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for out in (sys.stdout, sys.stderr):
        try:
            out.flush()
        except (OSError, ValueError):
            status = status or 120
    os._exit(status & 0xFF)


def stream(file: int) -> io.TextIOWrapper:
    """Standard output or error, as an interpreter opens it."""
    raw = open(file, "wb", closefd=False)  # noqa: SIM115
    errors, at_once = ("backslashreplace", True) if file == 2 else ("strict", False)
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    return io.TextIOWrapper(raw, "utf-8", errors, line_buffering=at_once, write_through=unbuffered)


# --- in the tests ---


class Command:
    """A command in a server, with those methods of `subprocess.Popen` that tests use.

    Args:
        address: the server's socket.
        command: Python's arguments: `-m` and a module, `-c` and code, or a script; then its arguments.
        session: whether it gets its own process group.
    """

    def __init__(
        self,
        address: str,
        command: Sequence[str],
        cwd: str | Path,
        env: Mapping[str, str],
        files: Sequence[int | IO[Any]],
        session: bool = False,
    ) -> None:
        self.args = list(command)
        self.returncode: int | None = None
        self.connection = socket.socket(socket.AF_UNIX)
        self.connection.connect(f"\0{address}")
        request = {"command": self.args, "cwd": str(cwd), "env": dict(env), "session": session}
        numbers = [file if isinstance(file, int) else file.fileno() for file in files]
        message = json.dumps(request).encode("ascii") + b"\n"
        sent = socket.send_fds(self.connection, [message], numbers)
        self.connection.sendall(message[sent:])
        self.replies = self.connection.makefile()
        self.pid = int(self.replies.readline())

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self.connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self.replies.readline())
            self.replies.close()
            self.connection.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Server:
    """A process from which commands are forked, with the modules of a project or of Copier."""

    def __init__(self, modules: str = "project") -> None:
        self.modules = modules
        self.address = f"copier-torch-{os.getpid()}-{random.SystemRandom().getrandbits(64):x}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{self.address}")  # an abstract socket of Linux, not a file
            listener.listen(64)
            number = listener.fileno()
            command = [sys.executable, __file__, "serve", str(number), modules]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[number])

    def run(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Like `subprocess.run`, for a command without input."""
        with open(os.devnull) as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            status = Command(self.address, command, cwd, env, (nothing, out, err)).wait()
            said = []
            for file in (out, err):
                file.seek(0)
                said.append(file.read().decode().replace("\r\n", "\n"))
        return subprocess.CompletedProcess(list(command), status, *said)

    def python(
        self,
        path: Path,
        cold: str | Path = sys.executable,
        source: Path | None = None,
        package: str = "my_project",
        scripts: str = "",
    ) -> Path:
        """Write a program that runs a package and its modules in this server, and anything else in `cold`.

        `source` is the folder of the package, if only `cold` has the package on its path. `scripts` is a shell pattern
        of commands that also run in this server; `*` means all.
        """
        warm = shlex.join([sys.executable, "-I", "-S", __file__, "ask", self.address])
        known = f"PYTHONPATH={shlex.quote(str(source))} " if source else ""
        if self.modules == "copier":
            known += f"WARM_EXECUTABLE={shlex.quote(str(path))} "
        also = f"|{scripts}" if scripts else ""
        case = f'case "$* " in "-m {package} "*|"-"[Pu]" -m {package} "*{also}) {known}exec {warm} "$@";; esac'
        path.unlink(missing_ok=True)  # in a virtual environment, it is a link to an interpreter
        path.write_text(f'#!/bin/sh\n{case}\nexec {shlex.quote(str(cold))} "$@"\n')
        path.chmod(0o755)
        return path

    def stop(self) -> None:
        self.process.communicate()


def ask(address: str, command: Sequence[str]) -> int:
    """Run a command in a server, with this process's streams; forward signals and the exit status."""
    while command[0] in OPTIONS:
        os.environ[OPTIONS[command[0]]] = "1"
        command = command[1:]
    running = Command(address, command, os.getcwd(), os.environ, (0, 1, 2))
    for number in FORWARDED:
        signal.signal(number, lambda number, _: running.send_signal(number))
    status = running.wait()
    if status < 0:
        if -status != signal.SIGKILL:  # its action can't be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(socket.socket(fileno=int(sys.argv[2])), sys.argv[3])
    else:
        sys.exit(ask(sys.argv[2], sys.argv[3:]))
