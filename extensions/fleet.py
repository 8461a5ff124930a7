"""Update many projects made from a template in parallel, and print a results table.

    python3 extensions/fleet.py projects.txt

The list has one project per line: a folder, relative to the list, or a URL to clone. A # starts a comment line.
Each project is updated by `copier update --trust --defaults`, with the Copier of this Python: the template's migrations
run, and new questions get their defaults. Changes stay uncommitted unless --commit is given; nothing is ever pushed.
Exit status: 0 all updated or up to date, 1 conflicts or failures, 2 wrong options or a wrong list, 130 after Ctrl-C.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unicodedata import combining, east_asian_width, normalize

from update.git import Refusal, quiet
from update.git import git as run_git

ANSWERS = ".copier-answers.yml"
COPIER = (sys.executable, "-P", "-m", "copier")  # -P: no module of the project shadows one of Copier's
OUTCOMES = ("updated", "to update", "up to date", "conflicts", "failed", "not started")
URL = re.compile(r"(?:https?|ssh|git|file)://|[\w.-]+@[\w.-]+:")

stopping = threading.Event()  # set by Ctrl-C: no new update starts
running: set["subprocess.Popen[bytes]"] = set()
worker = threading.local()


class Problem(Exception):
    """An error in one project or in the list, in one line."""


@dataclass
class Member:
    """A project of the list, and the outcome of its update."""

    name: str
    folder: Path
    url: str
    log: Path
    before: str = "-"
    after: str = "-"
    outcome: str = "not started"
    detail: str = ""


def read_list(source: str, clones: Path | None) -> list[Member]:
    """The projects of a list. A duplicate is an error: two updates would run in one project."""
    home = Path() if source == "-" else Path(source).parent
    content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    if b"\0" in content:
        raise Problem(f"{source}: not a UTF-8 text file")
    projects, lines = [], dict[Path, int]()
    for number, line in enumerate(content.decode("utf-8-sig", "surrogateescape").split("\n"), start=1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        url = line if URL.match(line) else ""
        path = (clones or home / "fleet") / clone_name(url) if url else home / os.path.expanduser(line)
        folder, name = Path(os.path.realpath(path)), without_password(line)
        if folder in lines:
            raise Problem(f"{source}, line {number}: {name} is the same project as line {lines[folder]}")
        lines[folder] = number
        projects.append(Member(name, folder, url, Path(f"{number:03d} {folder.name[:60]}.log")))
    if not projects:
        raise Problem(f"{source}: no project in the list; add a folder or a URL per line")
    return projects


def clone_name(url: str) -> Path:
    """`github.com/team/model`, since two teams may both have a `model`."""
    address = re.sub(r"^\w+://", "", url).rpartition("@")[2].removesuffix("/").removesuffix(".git")
    return Path(*[part for part in re.split(r"[/:\\]+", address) if part.strip(".")])


def without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


# --- commands ---


def subprocess_options(folder: Path, **more: str) -> dict[str, Any]:
    """Options of a subprocess in a folder: no questions, and English, since the table quotes its output.

    In a session of its own, Ctrl-C does not reach it, and ssh finds no terminal to ask for a password.
    """
    env = quiet() | {"LANGUAGE": "en", "NO_COLOR": "1"} | more
    return {"cwd": folder, "env": env, "stdin": subprocess.DEVNULL, "start_new_session": True}


def git(folder: Path, *arguments: str) -> str:
    """The output of a git command that changes nothing."""
    try:
        return run_git(*arguments, cwd=folder, env={"LANGUAGE": "en"}, session=True).removesuffix("\n")
    except Refusal as error:
        raise Problem(reason(1, str(error).encode())) from None


def run_logged(project: Member, folder: Path, *command: str) -> tuple[int, bytes]:
    """Exit status and output of a command; the output also goes to the project's log.

    All Copier processes share one cached clone of a remote template, and fail when they use it at the same time. So
    each worker has its own cache.
    """
    with project.log.open("a+b") as log:
        log.write(os.fsencode(f"$ {without_password(' '.join(command))}\n"))
        log.flush()
        start = log.tell()
        how = subprocess_options(folder, COPIER_CACHE_DIR=worker.cache)
        process = subprocess.Popen(command, **how, stdout=log, stderr=subprocess.STDOUT)
        running.add(process)
        status = process.wait()
        running.discard(process)
        log.seek(start)
        return status, log.read()


def run_checked(project: Member, folder: Path, *command: str) -> bytes:
    """The output of a command that must succeed."""
    status, output = run_logged(project, folder, *command)
    if status:
        raise Problem(reason(status, output))
    return output


def reason(status: int, output: bytes) -> str:
    """The line of an output that says why a command failed: an error of git, or else the last line."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    lines = [line.strip() for line in output.decode(errors="replace").splitlines() if line.strip()]
    about = re.compile(
        r"hint:|\((?:Below, Copier says|The exit status 1 that Copier)|Task .* returned non-zero exit status"
    )
    lines = [line for line in lines if not about.match(line)]
    told = re.findall(r"\b(?:fatal|error): (.+)", "\n".join(lines))
    return str((told or lines or [f"exit status {status}, no output"])[-1])


# --- one project ---


def fetch(project: Member) -> None:
    """Clone a URL, or update its earlier clone."""
    folder = project.folder
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        run_checked(project, folder.parent, "git", "clone", "--quiet", "--", project.url, str(folder))
    elif (folder / ".git").exists() and git(folder, "config", "--default", "", "remote.origin.url") == project.url:
        run_checked(project, folder, "git", "fetch", "--quiet")
        run_checked(project, folder, "git", "merge", "--quiet", "--ff-only", "@{upstream}")
    else:
        raise Problem(f"not a clone of this URL; move it, or give another --clones: {folder}")


def origin(folder: Path) -> tuple[str, str]:
    """The template that a project records, and the version."""
    import yaml  # installed with Copier, which `main` has checked

    try:
        answers = yaml.safe_load((folder / ANSWERS).read_text(encoding="utf-8"))
        return str(answers["_src_path"]), str(answers["_commit"])
    except FileNotFoundError:
        raise Problem(f"no {ANSWERS}: not made by Copier, or not the project's folder") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise Problem(f"{ANSWERS}{line}: {error.problem}") from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise Problem(f"{ANSWERS}: _src_path or _commit is missing; restore the line") from None


def changes(folder: Path) -> int:
    """How many files differ from HEAD. A renamed one has two entries and counts once."""
    entries = iter(git(folder, "status", "--porcelain", "-z", "--untracked-files=all", "--", ".").split("\0")[:-1])
    return sum(1 for entry in entries if not set("RC") & set(entry[:2]) or next(entries))


def unmerged(folder: Path, below: str = ".") -> list[str]:
    """The files in conflict."""
    entries = git(folder, "ls-files", "--unmerged", "-z", "--", below).split("\0")[:-1]
    return sorted({entry.split("\t", 1)[1] for entry in entries})


def count_files(count: int) -> str:
    return f"{count} file{'s' * (count != 1)}"


def dry_run(project: Member, options: argparse.Namespace) -> None:
    """Dry run: the version that is offered and the outcome of an update to it. Changes nothing in the project."""
    check(project, options)
    output = run_checked(project, project.folder, *COPIER, "check-update", "--output-format=json")
    offered = json.loads(output[output.rindex(b"{") :])
    project.after = "v" * project.before.startswith("v") + offered["latest_version"]  # Copier drops the v of the tag
    project.outcome = "to update" if offered["update_available"] else "up to date"
    if offered["update_available"]:
        with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
            preview(project, Path(folder, "template"))


def preview(project: Member, clone: Path) -> None:
    """Ask the template's own program, if it has one, for the outcome of an update."""
    template, _ = origin(project.folder)
    url = re.sub(r"^git\+", "", template)
    for short, whole in {"gh:": "https://github.com/", "gl:": "https://gitlab.com/"}.items():
        url = re.sub(f"^{short}", whole, url)
    run_checked(project, project.folder, "git", "clone", "--quiet", "--", os.path.expanduser(url), str(clone))
    git(clone, "checkout", "--quiet", project.after)
    program = clone / "extensions" / "update"
    if not (program / "__main__.py").is_file():
        return
    status, output = run_logged(
        project, project.folder, sys.executable, str(program), "--preview", "--to", project.after
    )
    text = output.decode(errors="replace")
    if status:
        raise Problem(reason(status, output))
    conflicts = re.search(r"^\d+ in conflict:\n((?: .*\n)*)", text, re.MULTILINE)
    if conflicts:
        project.outcome = "conflicts"
        project.detail = list_names(re.findall(r"^  (\S.*)$", conflicts[1], re.MULTILINE), "would be in conflict")


def list_names(names: Sequence[str], what: str = "") -> str:
    """The number of files and the names of the first three."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{count_files(len(names))}{f' {what}' if what else ''}: {', '.join(names[:3])}{more}"


def check(project: Member, options: argparse.Namespace) -> None:
    """Refuse a project that is not ready, before anything changes."""
    folder = project.folder
    if names := unmerged(folder, ":/"):
        raise Problem(f"unresolved conflicts in its repository: {names[0]}; resolve them first")
    if count := changes(folder):
        raise Problem(f"uncommitted changes in {count_files(count)}: commit or stash them first")
    other = options.commit and git(folder, "branch", "--show-current") != options.branch
    if other and git(folder, "branch", "--list", options.branch):
        raise Problem(f"the branch {options.branch} already exists: delete it, or give another --branch")


def update(project: Member, options: argparse.Namespace) -> None:
    """Let Copier update one project, and note the outcome."""
    check(project, options)
    folder = project.folder
    wanted = [f"--vcs-ref={options.vcs_ref}"] if options.vcs_ref else []
    status, output = run_logged(project, folder, *COPIER, "update", "--trust", "--defaults", *wanted)
    count, names = changes(folder), unmerged(folder)
    if status and not names:
        raise Problem(
            reason(status, output) + (f" ({count_files(count)} partly updated: see the log)" if count else "")
        )
    project.after = origin(folder)[1]
    if names:  # whatever the exit status: Copier alone exits with 0 on conflicts
        project.outcome, project.detail = "conflicts", list_names(names)
    elif count:
        committed = commit(project, options.commit, options.branch) if options.commit else ""
        project.outcome, project.detail = "updated", count_files(count) + committed
    else:
        project.outcome = "up to date"


def commit(project: Member, message: str, branch: str) -> str:
    """Commit one project's update and nothing else of its repository; a hook may refuse the commit."""
    folder = project.folder
    try:
        run_checked(project, folder, "git", "add", "--all", "--", ".")
        if git(folder, "branch", "--show-current") != branch:
            run_checked(project, folder, "git", "switch", "--quiet", "--create", branch)
        run_checked(project, folder, "git", "commit", "--quiet", f"--message={message}", "--", ".")
    except Problem as problem:
        raise Problem(f"updated and staged, but not committed: {problem}") from None
    return f", committed on {branch}"


# --- all of them ---


def update_group(projects: Sequence[Member], options: argparse.Namespace) -> None:
    """Update the projects of one repository in turn; an error in one does not stop the others."""
    for project in projects:
        if stopping.is_set():
            return
        try:
            project.log.unlink(missing_ok=True)
            if project.url:
                fetch(project)
            if not project.folder.is_dir():
                raise Problem("no such folder")
            git(project.folder, "rev-parse", "--show-toplevel")
            template, project.before = origin(project.folder)
            if ":" not in template and not (project.folder / os.path.expanduser(template)).exists():
                raise Problem(
                    f"{ANSWERS}: _src_path {template} does not exist; correct it"
                )  # Copier's message misleads
            dry_run(project, options) if options.dry_run else update(project, options)
        except (Problem, OSError, ValueError) as problem:
            project.outcome, project.detail = "failed", str(problem)


def repository(project: Member) -> str:
    """The key for updates that must not run at the same time. Work trees of one repository share its branches."""
    with suppress(Problem, OSError):
        return git(project.folder, "rev-parse", "--path-format=absolute", "--git-common-dir")
    return str(project.folder)


def update_all(projects: Sequence[Member], options: argparse.Namespace) -> None:
    """Update all projects, one thread per repository."""
    groups: dict[str, list[Member]] = {}
    for project in projects:
        groups.setdefault(repository(project), []).append(project)
    with tempfile.TemporaryDirectory(prefix="fleet-", ignore_cleanup_errors=True) as caches:

        def prepare() -> None:
            worker.cache = str(Path(caches, threading.current_thread().name))

        with ThreadPoolExecutor(options.jobs, initializer=prepare) as pool:
            futures = [pool.submit(update_group, group, options) for group in groups.values()]
            while wait(futures, timeout=0.5).not_done:
                if sys.stderr.isatty():
                    done = sum(project.outcome != "not started" for project in projects)
                    print(f"\r{done} of {len(projects)} ", end="\r", file=sys.stderr, flush=True)
            for future in futures:
                future.result()


def on_interrupt(*_: object) -> None:
    """Handle Ctrl-C: running updates finish, so that no project is half updated; a second Ctrl-C stops them."""
    if stopping.is_set():
        for process in list(running):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
    else:
        stopping.set()
        os.write(2, b"\nNo new update starts. Press Ctrl-C again to stop the running ones.\n")  # print is not reentrant


def table(projects: Sequence[Member]) -> str:
    """The results table, aligned for a terminal, where a Korean letter is two columns wide."""
    rows = [("project", "from", "to", "outcome", "detail")]
    rows += [(p.name, p.before, p.after, p.outcome, p.detail[:160]) for p in projects]
    shown = [["".join(c if c.isprintable() else "?" for c in normalize("NFC", cell)) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(*shown, strict=True)]
    padded = [[c + " " * (width - display_width(c)) for c, width in zip(row, widths, strict=True)] for row in shown]
    return "\n".join("  ".join(row).rstrip() for row in padded)


def display_width(text: str) -> int:
    return sum(0 if combining(c) else 1 + (east_asian_width(c) in "WF") for c in text)


def main() -> int:
    summary, _, rest = str(__doc__).partition("\n\n")
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=summary, epilog=rest, formatter_class=layout)
    add = parser.add_argument
    add("list", metavar="LIST", help="a text file with one project per line, or - for standard input")
    add("--dry-run", action="store_true", help="show the outcome of an update to the newest release; change nothing")
    add("--vcs-ref", metavar="REF", help="update to this version (default: the newest release)")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="parallel updates (default: %(default)s)")
    add("--commit", metavar="MESSAGE", help="commit updates without conflicts on a new branch")
    add("--branch", default="copier-update", metavar="NAME", help="the name of that branch (default: %(default)s)")
    add("--clones", type=Path, metavar="FOLDER", help="where URLs are cloned to (default: fleet/ beside the list)")
    add("--logs", type=Path, metavar="FOLDER", help="folder for the logs (default: a temporary folder)")
    options = parser.parse_args()
    if not find_spec("copier"):
        parser.exit(2, "This Python has no Copier. Run: uvx --from copier python extensions/fleet.py LIST\n")
    if options.jobs < 1:
        parser.error("--jobs must be 1 or more")
    if options.dry_run and (options.vcs_ref or options.commit):
        parser.error("--dry-run is for the newest release and changes nothing: leave out --vcs-ref and --commit")
    try:
        git(Path(), "check-ref-format", "--branch", options.branch)
        projects = read_list(options.list, options.clones)
        logs = options.logs or Path(tempfile.mkdtemp(prefix="fleet-logs-"))
        logs.mkdir(parents=True, exist_ok=True)
    except Problem as problem:
        parser.exit(2, f"{parser.prog}: {problem}\n")
    except OSError as error:
        parser.exit(2, f"{parser.prog}: {error.filename}: {error.strerror}\n")
    for project in projects:
        project.log = logs / project.log
    signal.signal(signal.SIGINT, on_interrupt)  # a KeyboardInterrupt could be raised in any line, even in a handler
    update_all(projects, options)
    counts = Counter(project.outcome for project in projects)
    summary = ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])
    text = f"{table(projects)}\n\n{summary}\nlogs: {logs}"
    print(text.encode(sys.stdout.encoding, "replace").decode(sys.stdout.encoding))  # not every terminal can show Korean
    return 130 if stopping.is_set() else int(bool(counts["conflicts"] + counts["failed"]))


if __name__ == "__main__":
    sys.exit(main())
