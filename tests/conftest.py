"""Tests copy from a clone of this repository with the work tree on top, tagged as a version above all released ones."""

import contextlib
import datetime
import importlib
import os
import select
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeAlias

import copier
import jinja2
import plumbum
import pytest
import warm
import yaml
from renders import Renders, compiled, merge, script

ROOT = Path(__file__).resolve().parents[1]
NEXT = "v9999.0.0"
QUESTIONS = yaml.safe_load((ROOT / "copier.yml").read_text())
EXTRAS = " ".join(QUESTIONS["extras"]["choices"].values())  # all of them, as `copy` and `update` below take them

MEMORY = Path("/dev/shm")  # on Linux, a file system in memory: a hundred thousand small files are fast there
ENOUGH = 8 * 2**30  # bytes for an environment with torch, and the projects of two workers
SHORT = tempfile.gettempdir()  # for sockets, whose path has to be short

RENDERS = Renders(warm.CACHE)

Render = Callable[..., Path]
Process: TypeAlias = warm.Command | subprocess.Popen[bytes]


def pytest_configure(config: pytest.Config) -> None:
    """Set the seed of random cases: another one each day, the same for all workers of a run."""
    os.environ.setdefault("SEED", str(datetime.date.today().toordinal() * 1000 % 1_000_000))
    if not hasattr(config, "workerinput"):
        RENDERS.clean()
        if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.hookimpl(optionalhook=True)  # a hook of xdist, which is not loaded in a pytest that a test starts
def pytest_xdist_auto_num_workers() -> int:
    """One worker more than processors, because some tests wait for a signal or a process."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest test first, so that it isn't the last one to finish."""
    items.sort(key=lambda item: "from_nothing" not in item.name)


def pytest_report_header() -> str:
    return f"random cases start with SEED={os.environ['SEED']}"


def run(*command: str | Path, cwd: Path, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command, by default one that must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert not ok or done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}{done.stderr}"
    return done


def git(*arguments: str | Path, cwd: Path) -> str:
    return run("git", *arguments, cwd=cwd).stdout.strip()


def tree(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file below a folder, with its content and its executable bits."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode & stat.S_IXUSR)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".git" not in path.relative_to(folder).parts
    }


def save(folder: Path, message: str = "work") -> None:
    """Commit everything."""
    if not (folder / ".git").exists():
        git("init", "--quiet", "--initial-branch=main", cwd=folder)
    git("add", "--all", cwd=folder)
    git("commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


@pytest.fixture(scope="session", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Isolate the tests from settings of this machine and of the command that started them."""
    settings = tmp_path_factory.mktemp("settings") / "settings.yml"
    settings.write_text("{}\n")
    own = {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.com",
        "COPIER_SETTINGS_PATH": str(settings),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a project's tests need none; pytest would compile each again
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path_factory.mktemp("hypothesis")),
        "TMPDIR": str(tmp_path_factory.mktemp("tmp")),
    }
    foreign = ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "PYTHONPATH"]  # set in git hooks
    foreign += ["ARGS", "CONFIG", "CONSTRAINTS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"]  # set by `make test`
    foreign += ["PYTEST_ADDOPTS", "PYTEST_PLUGINS"]  # not for the tests of projects
    with pytest.MonkeyPatch.context() as patch, plumbum.local.env(**own):  # plumbum keeps a copy of the environment
        patch.setattr(jinja2.Environment, "compile", compiled)
        warm.keep_bytecode()
        patch.setattr(tempfile, "tempdir", own["TMPDIR"])  # tempfile reads TMPDIR only once, and has done so
        for key, value in own.items():
            patch.setenv(key, value)
        for key in foreign:
            patch.delenv(key, raising=False)
            if key in plumbum.local.env:
                del plumbum.local.env[key]
        yield


@pytest.fixture(scope="session")
def template(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone of the template from which projects are copied."""
    clone = tmp_path_factory.mktemp("template") / "copier-torch"
    if git("rev-parse", "--is-shallow-repository", cwd=ROOT) == "true":
        pytest.exit("this clone lacks the released versions: run `git fetch --unshallow`", returncode=2)
    tagged_clone(clone)
    return clone


def tagged_clone(clone: Path) -> None:
    """Clone this repository, add a commit with the work tree, and tag each version."""
    git("clone", "--quiet", "--no-checkout", ROOT, clone, cwd=ROOT)
    for name in git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0"):
        if name and (ROOT / name).exists():  # a file deleted from the work tree is still listed
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    save(clone, "the work tree")
    run("make", "tags", cwd=clone)
    git("tag", "--force", NEXT, cwd=clone)


def pruned(template: Path, clone: Path) -> Path:
    """A clone with one kind of data and without history, which Copier renders faster; its version is NEXT."""
    git("clone", "--quiet", "--depth=1", f"--branch={NEXT}", template.as_uri(), clone, cwd=template)
    for path in (clone / "template" / "kinds").iterdir():
        if path.name != "image_classification":
            shutil.rmtree(path)
            shutil.rmtree(clone / "template" / "project" / f"{{{{{path.name}}}}}")
    shutil.rmtree(clone / ".git")
    save(clone, "current")
    git("tag", NEXT, cwd=clone)
    return clone


@pytest.fixture(scope="session")
def releases(template: Path) -> list[str]:
    """The released versions, oldest first."""
    tags = git("tag", "--list", "v*", "--sort=version:refname", cwd=template).split()
    return [tag for tag in tags if tag != NEXT]


@pytest.fixture(scope="session")
def plain(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template without git: copies of it are fast and have no version."""
    folder = tmp_path_factory.mktemp("plain") / "copier-torch"
    shutil.copytree(template, folder, ignore=shutil.ignore_patterns(".git"))
    return folder


def copy(template: Path, project: Path, version: str = NEXT, **answers: str) -> None:
    """Create a project of a version with these answers, as Copier does; each is rendered only once."""
    RENDERS.copy(template, version, answers, project)


def copier_copy(template: Path, project: Path, version: str | None = None, **answers: str) -> None:
    """Create a project with Copier itself, from any template."""
    data: dict[str, Any] = dict(answers)
    if "extras" in data:  # a string of words, so that answers are hashable
        data["extras"] = data["extras"].split()
    copier.run_copy(str(template), project, data=data, defaults=True, quiet=True, vcs_ref=version)


def update(project: Path, version: str = NEXT, ok: bool = True, **answers: str) -> subprocess.CompletedProcess[str]:
    """Update like `copier_update`, but in this process and without Copier's own changes to the files."""
    done = merge(RENDERS, project, version, answers)
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


def copier_update(
    project: Path, version: str = NEXT, ok: bool = True, **answers: str
) -> subprocess.CompletedProcess[str]:
    """Run `copier update` without questions."""
    return with_copier(*update_words(version, **answers), cwd=project, ok=ok)


def update_words(version: str, **answers: str) -> list[str | Path]:
    """Python's arguments for `copier update` without questions."""
    if "extras" in answers:
        answers["extras"] = f"[{', '.join(answers['extras'].split())}]"
    given = [f"--data={key}={value}" for key, value in answers.items()]
    return ["-m", "copier", "update", "--trust", "--defaults", "--quiet", "--vcs-ref", version, *given]


def with_copier(*command: str | Path, cwd: Path, ok: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    """Run Python with Copier's modules already imported; so do the programs that Copier starts with its Python.

    They are not in the process group of their caller. Tests of kills and of the start itself use `sys.executable`.
    """
    if not warm.AVAILABLE:
        return run(sys.executable, *command, cwd=cwd, ok=ok, **env)
    words = [str(part) for part in command]
    done = server("copier").run(words, cwd, os.environ | {"WARM_EXECUTABLE": str(copier_python())} | env)
    assert not ok or done.returncode == 0, f"{command} in {cwd}:\n{done.stdout}{done.stderr}"
    return done


def command(project: Path, *words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the template's program on a project like scripts/update.py, but in this process."""
    clone = Path(yaml.safe_load((project / ".copier-answers.yml").read_text())["_src_path"])
    done = script(RENDERS, clone, project, [str(project), *words])
    assert not ok or done.returncode == 0, done.stdout + done.stderr
    return done


@contextlib.contextmanager
def mypy_cache() -> Iterator[Path]:
    """The cache of mypy for projects; workers and runs share it, one at a time. Checking torch takes half a minute."""
    import fcntl  # only on Unix

    (ROOT / "build").mkdir(exist_ok=True)
    with open(ROOT / "build" / "mypy.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield ROOT / "build" / "mypy"


def unmerged(project: Path) -> list[str]:
    """The paths in conflict."""
    entries = git("ls-files", "-z", "--unmerged", cwd=project).split("\0")
    return sorted({entry.split("\t")[1] for entry in entries if entry})


@pytest.fixture(scope="session")
def render(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Render]:
    """A project with these answers. Tests share it, so they must not change it."""
    made: dict[tuple[tuple[str, str], ...], Path] = {}
    began: dict[Path, list[tuple[str, int]]] = {}

    def rendered(**answers: str) -> Path:
        key = tuple(sorted(answers.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp("project") / "project"
            copy(template, made[key], **answers)
            began[made[key]] = stamps(made[key])
        return made[key]

    yield rendered
    for project, before in began.items():
        touched = sorted({name for name, _ in set(before) ^ set(stamps(project))})
        assert not touched, f"a test changed a project that others share: {touched[:5]} in {project}"


def stamps(folder: Path) -> list[tuple[str, int]]:
    """Each path below a folder, with its modification time."""
    return [(path.relative_to(folder).as_posix(), path.lstat().st_mtime_ns) for path in folder.rglob("*")]


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    """A project with default answers in a git repository, which the test may change."""
    path = tmp_path / "project"
    copy(template, path, NEXT)
    save(path)
    return path


WARM: dict[str, warm.Server] = {}


@pytest.fixture(scope="session", autouse=True)
def warm_server(alone: None) -> Iterator[None]:
    """Stop the servers of warm commands, if a test has started them."""
    yield
    for server in WARM.values():
        server.stop()


def server(modules: str = "project") -> warm.Server:
    """The server of warm commands with the modules of a project, or of Copier; started on first use."""
    if modules not in WARM:
        WARM[modules] = warm.Server(modules)
    return WARM[modules]


@cache
def any_command() -> Path:
    """A replacement for Python that runs anything in the server: torchrun starts its processes with $PYTHON_EXEC."""
    return server().python(Path(tempfile.mkdtemp()) / "python", scripts="*")


@cache
def copier_python() -> Path:
    """A replacement for Python that starts with Copier's modules, and so do the programs that Copier runs with it."""
    if not warm.AVAILABLE:
        return Path(sys.executable)
    return server("copier").python(Path(tempfile.mkdtemp()) / "python", scripts="*")


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A replacement for Python in scripts, in which a project's commands start as fast as in `in_project`."""
    if not warm.AVAILABLE:
        return Path(sys.executable)
    return server().python(tmp_path_factory.mktemp("python") / "python")


def start(project: Path, *command: str | Path, files: Sequence[int | IO[Any]], **env: str) -> Process:
    """Start Python with a project on its path, in its own process group, and don't wait for it.

    `files` are its standard input, output and error. Figures are not drawn.
    """
    words = [str(part) for part in command]
    env = os.environ | {"PYTHONPATH": str(project / "src"), "SKETCH": "1"} | env
    if warm.AVAILABLE:
        return warm.Command(server().address, words, project, env, files, session=True)
    given, out, err = files
    whole = [sys.executable, *words]
    return subprocess.Popen(whole, cwd=project, env=env, stdin=given, stdout=out, stderr=err, start_new_session=True)


def of_the_day(cases: Iterable[Any], count: int, *marks: pytest.MarkDecorator) -> list[Any]:
    """Parameters of a test: `count` of the cases, others each day; `make exhaustive` runs all. Each gets `marks`."""
    every = [case if isinstance(case, tuple) else (case,) for case in cases]
    first = int(os.environ["SEED"]) // 1000 * count
    chosen = {(first + number) % len(every) for number in range(count)}
    later = [() if number in chosen else (pytest.mark.exhaustive,) for number in range(len(every))]
    return [pytest.param(*case, marks=(*marks, *more)) for case, more in zip(every, later, strict=True)]


def turn(number: int, of: int) -> pytest.MarkDecorator:
    """A mark for each of several tests: one of them runs, another one each day; `make exhaustive` runs all."""
    return pytest.mark.slow if int(os.environ["SEED"]) // 1000 % of == number else pytest.mark.exhaustive


def in_project(
    project: Path, *command: str | Path, ok: bool = True, cold: bool = False, drawn: bool = False, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with a project on its path.

    `cold` starts a new interpreter (and torchrun starts such processes), for tests of the start; `drawn` draws figures,
    for tests of figures.
    """
    words, env = [str(part) for part in command], {"PYTHONPATH": str(project / "src")} | env
    if not drawn:
        env["SKETCH"] = "1"
    if cold or not warm.AVAILABLE:
        return run(sys.executable, *words, cwd=project, ok=ok, **env)
    done = server().run(words, project, os.environ | {"PYTHON_EXEC": str(any_command())} | env)
    assert not ok or done.returncode == 0, f"{command} in {project}:\n{done.stdout}{done.stderr}"
    return done


def in_terminal(
    command: Sequence[str | Path], cwd: Path, key: str, first: Callable[[], object] = lambda: None
) -> tuple[int, str]:
    """Run a command in a terminal. Press `key` whenever Copier asks, and call `first` before the first time."""
    import pty  # only on Unix

    ours, its = pty.openpty()
    env = os.environ | {"PROMPT_TOOLKIT_NO_CPR": "1", "TERM": "xterm"}
    process = subprocess.Popen(command, cwd=cwd, env=env, stdin=its, stdout=its, stderr=its, start_new_session=True)
    os.close(its)
    seen, pressed = b"", False
    with contextlib.suppress(OSError):  # Linux raises it when the other end is closed
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.3)[0]:
                seen += os.read(ours, 65536)
            elif "\N{MICROPHONE}".encode() in seen:
                if not pressed:
                    first()
                pressed = True
                os.write(ours, key.encode())
    os.close(ours)
    return process.wait(), seen.decode()


def extension(name: str) -> ModuleType:
    """A script of `extensions/`, imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "extensions")
        return importlib.import_module(name)


@pytest.fixture(scope="session")
def rules() -> ModuleType:
    return extension("update.rules")
