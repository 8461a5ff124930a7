"""Documentation: each command of a project's pages works as written, and the counts of docs/extras.md are right.

A command is a line of a code block without a language, or with `sh` or `console`, or a line that is a single command in
backticks. A Python block whose first line names a file is written to that file first: `# src/…` replaces the file,
`# into src/…` and `# src/…, its end` append to it, and `# …, in place of NAME` replaces a class or function. `# add to
src/…` merges: see `merge`. In docs/recipes.md, each section starts from the project without the others. Each page
runs from top to bottom in its own committed project, which has data and a short run. To keep the commands unchanged,
configs/train.* is set to 2 epochs of 2 batches there. The folder `own/` has files that are not part of a project.
"""

import ast
import contextlib
import importlib.util
import itertools
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import warm
from conftest import EXTRAS, ROOT, Render, copy, git, mypy_cache, of_the_day, save, server

TEMPLATE = ROOT / "template" / "project"
EVERYTHING = {"extras": EXTRAS, "tracker": "tensorboard"}
KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir() if path.name != "image_classification")

PROGRAMS = (
    r"(\w+=\S* )*(scripts/\w+\.sh|\.venv/bin/|"
    r"(make|python3|pip|uv|git|source|grep|echo|mkdir|rm|cp|tar|curl|copier|sbatch|docker) )"
)
SHOWN = [  # first lines of blocks without commands: a program's output, a tree, a file
    r"(configs|checkpoints|data|images)/",
    r"(error|warning|stopped|saved|trained|epoch|  step) ?\S",
    r" {3,}\w",
    r"(run  |config:|first: |model\.weights: |model\.args\.)",
    r"(images: |--- )",
    r"\w+,\w+,\S",
    r"(file|text),labels\n",
    r"  target +r2 ",
]

# Values for words in capitals, the placeholders of a page. The first pattern that matches the command applies.
VALUES = [
    (r"data\.folder=FOLDER", {"FOLDER": "data", "RUN": "a-run"}),
    (r"scripts/run\.sh", {"FOLDER": "images/sample", "RUN": "a-run", "IMAGE": "$SAMPLE", "SOUND": "$SAMPLE"}),
    (r"scripts/run\.sh", {"TEXT": "$SAMPLE", "FILE": "$SAMPLE", "TABLE.csv": "$SAMPLE"}),
    (r"split-data .*run\.task", {"SOURCE": "data/train", "FOLDER": "own/divided"}),
    (r"-data ", {"SOURCE": "own/unsplit", "SOURCE.csv": "own/unsplit/*.csv", "FOLDER": "own/split", "NEW": "own/new"}),
    (r"max_steps=10000", {"10000": "4", "200": "2"}),  # as many steps as a test can take
    (r"batch_size\.py", {"4096": "4"}),
    (r" sweep --trials 15", {"15": "5"}),  # `prepare` lets the sweep before it have 4
    (r"--index-url", {"INDEX": "https://example.com/no-such-index"}),  # torch is installed, so pip doesn't use it
    (r" push ", {"RUN": "a-run", "ORG": "me", "NAME": "model"}),
    (r"", {"RUN": "a-run"}),
]
NO_PLACEHOLDERS = {"HEAD"}

# Input for interactive commands. Of a project's own tests, only one file runs here; test_kinds.py runs all.
AT_THE_KEYBOARD = [
    (r"^make test$", {"PYTEST_ADDOPTS": "test/test_model.py"}),
    (r"^make update$", {"ARGS": "--defaults"}),  # Enter at each question
    (r"^git commit$", {"GIT_EDITOR": "echo An update >"}),
]


class Elsewhere(NamedTuple):
    """Commands that can't run here, with the reason, and the file that tests what they do."""

    pattern: str
    why: str
    where: str


ELSEWHERE = [
    Elsewhere(r'^git (init|add \.|commit -m "New project")$', "this project is committed", "tests/test_copy.py"),
    Elsewhere(r"model\.name=timm", "downloads weights", "tests/test_timm.py"),
    Elsewhere(r"model\.name=transformers|hf download", "downloads weights", "tests/test_transformers.py"),
    Elsewhere(r"import timm|torch torchvision", "needs torchvision", "tests/test_timm.py"),
    Elsewhere(r"^uv ", "needs uv and the network", "tests/test_extras.py"),
    Elsewhere(r"^docker ", "needs an engine for containers", "tests/test_extras.py"),
    Elsewhere(r"--nnodes=2 --nproc-per-node=4", "needs two machines of four GPUs", "tests/test_slurm.py"),
    Elsewhere(r" submit .*--partition", "needs Slurm", "tests/test_sweep.py"),
    Elsewhere(r" pull | push .*--private", "needs the Hub", "tests/test_hub.py"),
]

# Commands that run in the background until the page ends, with their default port.
SERVERS = [(r"-m my_project serve\b", 8000)]

# A stand-in for Slurm's sbatch: it skips options, and checks that the script exists and that its config is valid.
# tests/test_slurm.py tests what the script does.
SBATCH = """#!/bin/sh
while case "$1" in --*) true ;; *) false ;; esac; do shift; done
test -x "$1" && shift && exec .venv/bin/python -m my_project config "$@"
"""
# A new environment finds the packages of the tests' environment, so pip checks each requirement without a network.
# pip is one of them: installing it again takes three seconds.
PYTHON3 = f"""#!/bin/sh
case "$*" in "-m venv "*) set -- "$@" --without-pip;; esac
{shlex.quote(sys.executable)} "$@" || exit
case "$*" in "-m venv "*)
    site=$(echo "$3"/lib/python3*/site-packages)
    echo {shlex.quote(sysconfig.get_path("purelib"))} > "$site/tests.pth"
    mkdir "$site/torchvision-0.29.0.dist-info" # which the environment lacks: see constraints.txt
    printf 'Name: torchvision\\nVersion: 0.29.0\\n' > "$site/torchvision-0.29.0.dist-info/METADATA"
esac
"""


# --- reading a page ---


class Step(NamedTuple):
    """A command, or a file to be written before the next one."""

    command: str
    shown: str = ""  # the output that the page shows
    path: str = ""
    code: str = ""
    whole: bool = False  # the code replaces the file
    place: str = ""  # the class or function that the code replaces
    merged: bool = False  # the code is added to the file
    fresh: bool = False  # back to the committed state


def steps(page: str) -> Iterator[Step]:
    """The steps of a page, in order; AssertionError for a block that can't be classified."""
    pieces = r"^```(?P<language>[^`\n]*)\n(?P<block>.*?)^```$|^`(?P<line>[^`\n]+)`$"
    for found in re.finditer(pieces, page, re.MULTILINE | re.DOTALL):
        block, line = found["block"], found["line"]
        if line:
            if re.match(PROGRAMS, line):
                yield Step(line)
        elif found["language"] == "python":
            if file := re.match(r"# (into |add to )?(\S+\.py)(, its end)?(?:, in place of (\w+))?\n", block):
                whole = not (file[1] or file[3] or file[4])
                merged = file[1] == "add to "
                yield Step("", path=file[2], code=block, whole=whole, place=file[4] or "", merged=merged)
        elif found["language"] in ("", "sh", "console", "bash"):
            yield from commands(block)


def commands(block: str) -> Iterator[Step]:
    """The commands of a block; none if it is known to hold something else."""
    if block.startswith("$ "):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            yield Step(command, shown)
        return
    lines = [line for line in block.replace("\\\n", " ").splitlines() if not re.match(r"\s*(#|$)", line)]
    if not any(re.match(PROGRAMS, line) for line in lines):
        assert any(re.match(pattern, block) for pattern in SHOWN), (
            f"commands, or not? Say so in PROGRAMS or SHOWN:\n{block}"
        )
        return
    together = ""
    for line in lines:
        assert re.match(PROGRAMS, line), f"not in PROGRAMS, and among commands: {line}"
        together += line
        if line.endswith(" &"):  # runs in the background during the next one
            together += "\n"
        else:
            yield Step(together)
            together = ""


def steps_of(page: Path) -> list[Step]:
    """The steps of a page; none if it does not exist."""
    if not page.exists():
        return []
    if page.name != "recipes.md":
        return list(steps(page.read_text()))
    parts = [list(steps(part)) for part in sections(page).values()]
    return [step for part in parts for step in (Step("", fresh=True), *part)]


def sections(page: Path) -> dict[str, str]:
    """The text below each heading of the second level."""
    _, *parts = re.split(r"^## (.+)\n", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def pages(project: Path) -> dict[str, list[Step]]:
    """The steps of each page of a project."""
    return {path.relative_to(project).as_posix(): steps_of(path) for path in sorted(project.rglob("*.md"))}


def filled(command: str, sample: str) -> str:
    """The command with a value for each word in capitals; AssertionError if one has none."""
    for pattern, values in VALUES:
        if re.search(pattern, command):
            for name, value in values.items():
                command = re.sub(rf"(?<![\w.{{]){re.escape(name)}(?![\w=.])", value.replace("$SAMPLE", sample), command)
    words = set(re.findall(r"(?<![\w.{$-])[A-Z][A-Z_]+(?![\w=])", command)) - NO_PLACEHOLDERS
    assert not words, f"no value for {words}: {command}"
    return command


# --- running a page ---


def prepare(project: Path) -> None:
    """Shorten the runs of the config, keep the original in own/, and commit everything."""
    shutil.copytree(project / "configs", project / "own" / "configs")
    shorter = ("train", "epochs", 2), ("train", "limit_batches", 2), ("sweep", "trials", 4), ("sweep", "startup", 2)
    for name, key, value in shorter:
        for path in (project / "configs").glob(f"{name}.*"):
            pattern = rf'^(\s*"?{key}"?\s*[:=] *)[^\s,#]+'
            text, count = re.subn(pattern, rf"\g<1>{value}", path.read_text(), flags=re.MULTILINE)
            assert count == 1, f"{path}: {key}"
            path.write_text(text)
    git("init", "--quiet", "--initial-branch=main", cwd=project)
    (project / ".git" / "info" / "exclude").write_text("own/\n")
    save(project)


# Preparations for commands that contain these words.
BEFORE = {
    "--resume": "rm -rf checkpoints/a-run && cp -r own/stopped checkpoints/a-run",  # the newest run, and a stopped one
    "make test": "cp own/configs/* configs",  # the project's tests need the original config
}


# The form that pip writes if the path of Python is long or has a space.
COPIER = f"""#!/bin/sh
'''exec' "{sys.executable}" "$0" "$@"
' '''
import runpy
runpy.run_module("copier", run_name="__main__")
"""


class Reader:
    """Runs the commands of a page in a project, as a reader would."""

    def __init__(self, project: Path, desk: Path) -> None:
        self.project = project
        self.servers: list[subprocess.Popen[bytes]] = []
        desk.mkdir()
        for name, text in (("python3", PYTHON3), ("copier", COPIER), ("sbatch", SBATCH)):
            (desk / name).write_text(text)
            (desk / name).chmod(0o755)
        (desk / ".curlrc").write_text("fail\n")  # otherwise curl exits with 0 for an HTTP error
        self.environment = os.environ | {
            "PATH": f"{desk}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_NO_BUILD_ISOLATION": "0",  # 0 turns isolation off: pip inverts this variable
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "HOME": str(desk),
            "READER": str(desk),
            "SKETCH": "1",
            "PYTHON_EXEC": ".venv/bin/python",  # for torchrun: warm, too
        }

    def install(self, package: str = "my_project", script: str = "-m pytest") -> None:
        """Do what `make install` does, but without pip. The package and the script start in a warm process."""
        self.run("python3 -m venv .venv")
        (site,) = (self.project / ".venv").glob("lib/python3*/site-packages")
        (site / "project.pth").write_text(f"{self.project / 'src'}\n")
        programs = self.project / ".venv" / "bin"
        if warm.AVAILABLE:
            server().python(
                programs / "python",
                cold=programs / "python3",
                source=self.project / "src",
                package=package,
                scripts=f'"{script} "*',
            )
        (self.project / ".venv" / "installed").touch()

    def run(self, command: str, shown: str = "", **environment: str) -> None:
        """Run a command: it must succeed, or print the errors that the page shows."""
        waits = "\nwait $!" if "&\n" in command else ""
        if "train" in command:  # a run's name has its second, so two runs must not start in the same one
            time.sleep(1 - time.time() % 1)
        with mypy_cache() if command.startswith("make lint") else contextlib.nullcontext("") as cache:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command + waits],
                cwd=self.project,
                env=self.environment | {"MYPY_CACHE_DIR": str(cache)} | environment,
                input="A text that is typed in.\n" if re.match(r"scripts/run\.sh.* -( |$)", command) else "",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=600,
            )
        assert done.returncode == (2 if "error: " in shown else 0), f"{command}\n{done.stdout}"
        said = ranks(done.stdout)
        missing = [line for line in shown.splitlines() if line.strip("… ") and ranks(line.rstrip("…")) not in said]
        assert not missing, f"{command}: {missing} is not in\n{done.stdout}"

    def start_server(self, command: str, port: int) -> None:
        """Start a server; it must listen within two minutes."""
        started = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.project, env=self.environment)
        self.servers.append(started)
        for _ in range(240):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert started.poll() is None, f"{command}: ended with {started.returncode}"
            time.sleep(0.5)
        assert started.poll() is None, f"{command}: port {port} was taken"

    def wait_for_all(self) -> None:
        """Stop the servers, and wait for other background processes."""
        for started in self.servers:
            started.terminate()
            started.wait(60)
        mark = f"READER={self.environment['READER']}\0".encode()
        for _ in range(600):
            running = []
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if mark in (process / "environ").read_bytes():
                        running.append((process / "cmdline").read_bytes())
            if not running:
                return
            time.sleep(0.5)
        raise AssertionError(f"still running: {running}")

    def follow(self, page: list[Step]) -> None:
        """Run the steps of a page, in order."""
        try:
            self.run_steps(page)
        finally:
            self.wait_for_all()

    def run_steps(self, page: list[Step]) -> None:
        samples = (self.project / "images" / "sample").glob("*")
        sample = min((path for path in samples if path.suffix != ".md"), default=self.project)
        for step in page:
            if step.fresh:
                git("checkout", "--quiet", ".", cwd=self.project)
                git("clean", "--quiet", "--force", "-d", "src", "scripts", "configs", cwd=self.project)
            elif step.merged:
                merge(self.project / step.path, step.code)
            elif step.code:
                (self.project / step.path).parent.mkdir(exist_ok=True)
                if step.place:
                    replace(self.project / step.path, step.place, step.code.partition("\n")[2])
                    continue
                with (self.project / step.path).open("w" if step.whole else "a") as file:
                    file.write(step.code if step.whole else f"\n\n{step.code}")
            elif known := next((row for row in ELSEWHERE if re.search(row.pattern, step.command)), None):
                assert (ROOT / known.where).exists(), f"{known.where} should test this: {step.command}"
            else:
                by_hand = next((row for pattern, row in AT_THE_KEYBOARD if re.search(pattern, bare(step.command))), {})
                for before in (before for held, before in BEFORE.items() if held in step.command):
                    self.run(before)
                command = filled(step.command, f"images/sample/{sample.name}")
                port = next((port for pattern, port in SERVERS if re.search(pattern, command)), None)
                if port:
                    named = re.search(r"--port[ =](\d+)", command)
                    self.start_server(command, int(named[1]) if named else port)
                else:
                    self.run(command, step.shown, **by_hand)


def replace(file: Path, name: str, code: str) -> None:
    """Replace a class or function of a file by this code."""
    text = file.read_text()
    (node,) = (node for node in ast.parse(text).body if getattr(node, "name", "") == name)
    lines = text.splitlines(keepends=True)
    file.write_text("".join([*lines[: node.lineno - 1], code, *lines[node.end_lineno :]]))


def merge(file: Path, code: str) -> None:
    """Add code to a file, as docs/recipes.md says: imports at the top, what else it has at the end.

    Members of a class that is in the file join it, or replace those of the same name.
    """
    lines = file.read_text().splitlines() if file.exists() else []
    new = code.splitlines()
    for node in ast.parse(code).body:
        known = {name_of(old): old for old in ast.parse("\n".join(lines)).body}
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports = [old for old in known.values() if isinstance(old, ast.Import | ast.ImportFrom)]
            if ast.unparse(node) not in map(ast.unparse, imports):
                end = imports[-1].end_lineno if imports else 0
                lines[end:end] = new[node.lineno - 1 : node.end_lineno]
        elif isinstance(node, ast.ClassDef) and node.name in known:
            for member in node.body:
                (place,) = (old for old in ast.parse("\n".join(lines)).body if name_of(old) == node.name)
                assert isinstance(place, ast.ClassDef)
                put(lines, place.body, member, new, place.end_lineno or 0)
        else:
            put(lines, list(known.values()), node, new, len(lines))
    file.write_text("\n".join(lines) + "\n")


def put(lines: list[str], there: list[ast.stmt], node: ast.stmt, code: list[str], end: int) -> None:
    """Replace the statement of the same name among these, or insert a new one at `end`."""
    old = next((each for each in there if name_of(each) == name_of(node)), None)
    part = code[first_line(node) - 1 : node.end_lineno]
    if old:
        lines[first_line(old) - 1 : old.end_lineno] = part
    else:
        gap = 2 if first_line(node) > 1 and part[0][0] != " " else isinstance(node, ast.FunctionDef)
        lines[end:end] = [""] * gap + part


def name_of(node: ast.stmt) -> str:
    """The name that a statement defines; of an import and other statements, their code."""
    if isinstance(node, ast.AnnAssign):
        return ast.unparse(node.target)
    return getattr(node, "name", "") or ast.unparse(node)


def first_line(node: ast.stmt) -> int:
    """The first line of a statement, with its decorators."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(each.lineno for each in decorators)])


def ranks(text: str) -> str:
    """The text without rank numbers: which process prints first varies."""
    return re.sub(r"rank \d+", "rank N", text)


@pytest.fixture(scope="session")
def used(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A project to copy, with data, the run `a-run`, and in own/stopped the same run stopped within an epoch."""
    made: dict[str, Path] = {}

    def project(**answers: str) -> Path:
        key = str(answers)
        if key not in made:
            folder = tmp_path_factory.mktemp("used")
            home = folder / "project"
            copy(template, home, **answers)
            prepare(home)
            reader = Reader(home, folder / "desk")
            reader.install()
            often = "checkpoint.every_steps=1 checkpoint.keep=9"
            reader.run(f"scripts/train.sh configs/train.* run.name=a-run run.device=cpu {often}")
            reader.run("cp -r checkpoints/a-run own/stopped && rm own/stopped/*-e0*")
            reader.run("cd own/stopped && mv earlier/step-00000001.pt last.pt && rm -r earlier")
            made[key] = home
        return made[key]

    return project


def reader_of(page: str, used: Path, folder: Path) -> Reader:
    """A reader with a project in the state that the page expects."""
    project = folder / "project"
    shutil.copytree(used, project, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    reader = Reader(project, folder / "desk")
    if page == "README.md":  # right after the copy
        git("clean", "--quiet", "--force", "-dx", "--exclude=own", cwd=project)
    elif page != "docs/install.md":
        reader.install()
    if page == "docs/updating.md":
        offer_a_later_version(project, folder / "template")
    if page in ("docs/data.md", "data/README.md"):
        shutil.copytree(project / "data" / "train", project / "own" / "unsplit")
        for path in (project / "data").glob("classes.txt"):  # the class names of masks
            shutil.copy(path, project / "own" / "unsplit")
    if page == "data/README.md":  # the page is about replacing the sample by your own data
        for split in ("train", "valid", "test"):
            shutil.rmtree(project / "data" / split)
    return reader


def offer_a_later_version(project: Path, clone: Path) -> None:
    """Let the project come from a clone of the template that has a newer version."""
    answers = project / ".copier-answers.yml"
    [source] = re.findall("^_src_path: (.*)", answers.read_text(), flags=re.MULTILINE)
    git("clone", "--quiet", source, clone, cwd=project)
    with (clone / "template" / "project" / "Makefile.jinja").open("a") as file:
        file.write("\n# later\n")
    save(clone, "later")
    git("tag", "v9999.0.1", cwd=clone)
    answers.write_text(answers.read_text().replace(source, str(clone)))
    save(project, "from the clone")


NAMES = sorted(
    {
        "/".join(part for part in path.relative_to(TEMPLATE).parts if not part.startswith("{{")).removesuffix(".jinja")
        for path in TEMPLATE.rglob("*.md*")
    }
)


@pytest.mark.parametrize("answers", [{}, EVERYTHING, *({"data_kind": kind} for kind in KINDS)], ids=str)
def test_each_block_of_a_page_is_classified_as_commands_or_other(render: Render, answers: dict[str, str]) -> None:
    found = pages(render(**answers))
    assert set(found) <= set(NAMES)
    assert sum(len(page) for page in found.values()) > 30
    for page in found.values():
        for step in page:
            if step.command and not any(re.search(row.pattern, step.command) for row in ELSEWHERE):
                filled(step.command, "a-sample")


ALWAYS = ["README.md"]
LONGEST = ["docs/recipes.md", "docs/sweep.md"]  # test_recipes.py and test_sweep.py test what they do
OTHERS = [name for name in NAMES if name not in [*ALWAYS, *LONGEST]]


@pytest.mark.slow
@pytest.mark.parametrize("page", [*ALWAYS, *of_the_day(LONGEST, 1), *of_the_day(OTHERS, (len(OTHERS) + 1) // 2)])
def test_each_command_of_a_page_works_as_written(
    render: Render, used: Callable[..., Path], tmp_path: Path, page: str
) -> None:
    """In a project without extras; commands of the extras in a project with all of them."""
    plain, full = (steps_of(render(**answers) / page) for answers in ({}, EVERYTHING))
    if page == "AGENTS.md":  # a selection of what other pages show
        others = [step for name, steps in pages(render()).items() if name != page for step in steps]
        plain, full = beyond(others, plain), beyond([*others, *plain], full)
    if plain:
        (tmp_path / "plain").mkdir()
        reader_of(page, used(), tmp_path / "plain").follow(plain)
    new = beyond(plain, full)
    if new:
        (tmp_path / "full").mkdir()
        reader_of(page, used(**EVERYTHING), tmp_path / "full").follow(new)


@pytest.mark.slow
@pytest.mark.parametrize("kind", of_the_day(KINDS, 2))
def test_commands_in_the_pages_of_other_kinds_work_too(
    render: Render, used: Callable[..., Path], tmp_path: Path, kind: str
) -> None:
    """Only their own commands: the others are tested with the default kind."""
    for name, page_steps in pages(render(data_kind=kind)).items():
        new = beyond(steps_of(render() / name), page_steps)
        if new and name != "docs/recipes.md":  # test_recipes.py tries most, exhaustive all
            folder = tmp_path / name.replace("/", "-")
            folder.mkdir()
            page = "" if name == "README.md" else name  # its commands for installing and training are not among these
            reader_of(page, used(data_kind=kind), folder).follow(new)


@pytest.mark.exhaustive
@pytest.mark.parametrize("page", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_each_page_of_each_kind_works_from_top_to_bottom(
    render: Render, used: Callable[..., Path], tmp_path: Path, kind: str, page: str
) -> None:
    page_steps = steps_of(render(data_kind=kind, **EVERYTHING) / page)
    reader_of(page, used(data_kind=kind, **EVERYTHING), tmp_path).follow(page_steps)


def beyond(known: list[Step], page: list[Step]) -> list[Step]:
    """The steps of a page that are not in `known`, with the environment that they need.

    Of sections that are independent of each other, all steps of those that have new ones.
    """
    if page and page[0].fresh:
        starts = [*(at for at, step in enumerate(page) if step.fresh), len(page)]
        parts = [page[start:end] for start, end in itertools.pairwise(starts)]
        return [step for part in parts if not set(part) <= set(known) for step in part]
    commands = {bare(step.command) for step in known if step.command}
    new = [step for step in page if bare(step.command) not in commands]
    needed = [step for step in page if step in new or step.command.startswith("python3 -m venv ")]
    return needed if any(step.command for step in new) else []


def bare(command: str) -> str:
    """A command without its comment."""
    return re.sub(r"\s+# .*", "", command)


# --- the template's own pages ---


@pytest.fixture(scope="session")
def extras() -> ModuleType:
    """The module bench/extras.py."""
    spec = importlib.util.spec_from_file_location("bench_extras", ROOT / "bench" / "extras.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_default_project_installs_at_most_15_packages(render: Render, extras: ModuleType) -> None:
    packages = extras.core(render)
    assert {"matplotlib", "pillow", "pydantic", "pyyaml"} < packages
    assert len(packages) <= 15, sorted(packages)


@pytest.mark.slow
def test_docs_extras_counts_right_and_unused_extras_leave_nothing(render: Render, extras: ModuleType) -> None:
    page = extras.PAGE.read_text().partition(extras.BEGIN)[2].partition(extras.END)[0]
    said = [line.split("|")[1:6] for line in page.splitlines() if line.startswith("| `")]
    rows = extras.measure(render)
    counted = [line.split("|")[1:6] for line in extras.table(rows, set()).splitlines() if line.startswith("| `")]
    assert said == counted, "make the table again: .venv/bin/python bench/extras.py"
    for row in rows:
        assert not row.idle.files, row
        assert not row.idle.packages, row
        assert row.added.files, f"{row.option} adds nothing"


@pytest.mark.slow
def test_the_steps_of_docs_adopting_end_in_a_project_that_trains(template: Path, tmp_path: Path) -> None:
    clone, project = tmp_path / "copier-torch", tmp_path / "waves"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    git("remote", "remove", "origin", cwd=clone)
    project.mkdir()
    reader = Reader(project, tmp_path / "desk")
    walk = (ROOT / "docs" / "adopting.md").read_text().partition("## From a training script")[2]
    played = list(steps(walk))
    assert len([step for step in played if step.command]) > 20
    for step in played:
        if step.command == "make install":
            reader.install("waves", script="train.py")
        else:
            reader.run_steps([step])
    assert not (project / "train.py").exists()
    assert not git("status", "--porcelain", cwd=project)
    (best,) = project.glob("checkpoints/net-*/net-*-acc*.pt")
    assert float(best.stem.rpartition("acc")[2]) > 0.9


def test_links_between_the_templates_pages_are_valid() -> None:
    own = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    for page in own:
        for link in re.findall(r"\]\((?:<([^>]+)>|([^)\s]+))\)", page.read_text()):
            target = "".join(link)
            if not re.match(r"\w+:", target):
                path, _, heading = target.partition("#")
                file = page.parent / path if path else page
                assert file.exists(), f"{page.relative_to(ROOT)} links to {target}"
                if heading:
                    titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
                    names = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
                    assert heading in names, f"{page.relative_to(ROOT)} links to {target}"
