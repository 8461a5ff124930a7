"""Copier's copy, as a part of an update, and the files that it reads."""

import contextlib
import importlib
import multiprocessing
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .git import attempt, git, listed

Result = TypeVar("Result")


def link(clone: Path, folder: Path, env: Mapping[str, str]) -> bool:
    """Fill a new folder with hard links to a clone's files, in a third of the time that writing them takes.

    Returns False, without the folder, if the work tree differs from the index that `env` names. The index must be a new
    one: it has no file times, so git compares contents. Also False if a branch is checked out, since
    somebody may be editing the files; Copier checks out a commit.
    """
    if attempt("symbolic-ref", "--quiet", "HEAD", cwd=clone).status == 0:
        return False
    if attempt("-c", "core.fileMode=true", "update-index", "--refresh", cwd=clone, env=env).status:
        return False
    entries = [entry.split("\t", 1) for entry in listed(git("ls-files", "-z", "--stage", cwd=clone, env=env))]
    if not all(about.startswith("100") for about, _ in entries):  # a symbolic link or a submodule
        return False
    try:
        for parent in {os.path.dirname(path) for _, path in entries}:
            (folder / parent).mkdir(parents=True, exist_ok=True)
        for _, path in entries:
            os.link(clone / path, folder / path)
    except OSError:  # for example, the folder is on another file system
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def copy(source: Path, root: Path, **options: Any) -> Any:
    """Run Copier's copy as part of an update: steps that a template runs only in a new project are skipped."""
    import copier

    options |= {"quiet": True, "unsafe": True}
    with quick():
        try:
            from copier._main import as_operation
        except ImportError:  # not a public name; without it, tasks must not run, since one may create a repository
            return copier.run_copy(str(source), root, **{**options, "skip_tasks": True})
        return as_operation("update")(copier.run_copy)(str(source), root, **options)


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Save a third of a copy's time: compile equal templates once, and don't ask git about each file.

    Copier compiles the parts of paths again for each file. It asks git for the files of a project's index, which a
    render does not have.
    """
    import jinja2

    environment: Any = jinja2.Environment
    of_copier = importlib.import_module("copier._main")
    compile_template, cache = environment.compile, dict[Any, Any]()
    has_git = getattr(of_copier, "is_git_available", None)  # not a public name

    def compile_once(self: Any, source: Any, *rest: Any, **options: Any) -> Any:
        key = self, source, *rest, *options.items()
        if key not in cache:
            cache[key] = compile_template(self, source, *rest, **options)
        else:
            self.preprocess(source)  # resets Copier's tag `yield` for each template
        return cache[key]

    try:
        environment.compile = compile_once
        if has_git:
            of_copier.is_git_available = lambda: False  # type: ignore[attr-defined]
        yield
    finally:
        environment.compile = compile_template
        if has_git:
            of_copier.is_git_available = has_git  # type: ignore[attr-defined]


def both(first: Callable[[], Result], second: Callable[[], Result]) -> tuple[Result, Result]:
    """The results of two calls that render. On Linux, a fork of this process runs the first one in parallel.

    If the fork fails, this process repeats the call and raises its error. A process with threads is not forked: it
    could hang. The fork ends if this process ends or the second call fails: nobody reads from the pipe then.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return first(), second()
    importlib.import_module("copier")  # here, so that the fork has it too
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(first, receiver, sender))
    process.start()
    sender.close()
    try:
        with receiver:
            found = second()
            with contextlib.suppress(EOFError, OSError):
                return receiver.recv(), found
        return first(), found
    finally:
        process.join()


def send(call: Callable[[], Any], receiver: Any, sender: Any) -> None:
    """Send the result of a call; nothing if it fails."""
    receiver.close()  # only the parent process reads from it
    with contextlib.suppress(BaseException):
        sender.send(call())
