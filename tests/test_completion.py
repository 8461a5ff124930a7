"""The extra `schema`: the Tab key, pressed in real shells, completes commands, keys, values and runs."""

import fcntl
import json
import os
import pty
import select
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import EXTRAS, Render, in_project, run
from test_configs import KINDS

pytestmark = pytest.mark.slow

Press = Callable[..., tuple[str, str]]

NASTY = "a b$(touch x)`touch x`'"  # a run's folder
# Ctrl-O writes the line to a file, Ctrl-T inserts all candidates; an earlier completion of `python` is kept.
SHELLS = {
    "bash": """
        _mine() { COMPREPLY=(mine); }; complete -F _mine python
        bind -x '"\\C-o": printf %s "$READLINE_LINE" > ../new; mv ../new ../line'; bind '"\\C-t": insert-completions'
    """,
    "zsh": """
        autoload -Uz compinit; compinit -D; _mine() { compadd mine }; compdef _mine python
        show() { printf %s $BUFFER > ../new; mv ../new ../line }; zle -N show; bindkey '^O' show
    """,
    "fish": """
        complete -c python -f -a mine
        bind \\co 'printf %s (commandline | string collect) > ../new; mv ../new ../line'
    """,
}
START = {"bash": "--norc --noprofile", "zsh": "-f", "fish": "--no-config"}
TYPED = [  # a line, and the line after the Tab key in each shell; a space follows a complete word
    ("scripts/train.sh optim", "scripts/train.sh optimizer."),
    ("../my\\ project/scripts/test.sh lr=", "../my\\ project/scripts/test.sh lr=0.1 "),
    ("python -m my_project sp", "python -m my_project split-data "),
    ("python mi", "python mine "),
    ("../other/scripts/train.sh optim", "../other/scripts/train.sh optim"),  # a script of a project without completion
    ("../broken/scripts/train.sh optim", "../broken/scripts/train.sh optim"),
]
IN_BASH = [
    ("scripts/train.sh train.precision=b", "scripts/train.sh train.precision=bf16 "),
    ("scripts/train.sh no.such", "scripts/train.sh no.such"),
    ("scripts/train.sh optimizer.l", "scripts/train.sh optimizer.lr="),
    ("scripts/train.sh data.folder=im", "scripts/train.sh data.folder=images/"),
    ("scripts/test.sh p", "scripts/test.sh p"),  # not a part of an escaped character
    ("scripts/train.sh --resume t:", "scripts/train.sh --resume t:1 "),  # colons separate words in bash, as = does
]
INSIDE = """if True:
    import importlib, json, sys
    complete = importlib.import_module(f"{sys.argv[2]}.commands._complete").complete
    print(json.dumps([complete(words) for words in json.loads(sys.argv[1])]))
    assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def project(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with runs and a broken config, in a folder with a space; beside it, a broken project and a script."""
    folder = tmp_path_factory.mktemp("completion")
    project = shutil.copytree(render(extras=EXTRAS), folder / "my project")
    shutil.copytree(project, folder / "broken")
    (folder / "broken/src/my_project/options.py").write_text("an error\n")
    (folder / "other/scripts").mkdir(parents=True)
    (folder / "other/scripts/train.sh").write_text("#!/bin/sh\ntouch x ../x\n")
    (folder / "other/scripts/train.sh").chmod(0o755)
    for name in (NASTY, "lr=0.1", "t:1", "new\nline", "-x", "p q", "p$q"):
        (project / "checkpoints" / name).mkdir()
    (project / "checkpoints/t:1/metrics.csv").write_text("epoch,train_loss,valid_loss,valid_top5\n")
    (project / "configs/train.yaml").write_text("model: [\n")
    (project / "configs/own.py").write_text("open('x', 'w')\nprint('scripts/own')\n")
    return project


@pytest.fixture
def press(project: Path, request: pytest.FixtureRequest) -> Iterator[Press]:
    """Types a text and a key in a shell with the project's completion; returns the line, and the terminal's output."""
    shell: str = request.param
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    env = {"PATH": os.environ["PATH"], "HOME": str(project.parent), "LANG": "C.UTF-8", "TERM": "dumb"}
    env |= {"PYTHON": sys.executable, "INPUTRC": os.devnull}
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))
    process = subprocess.Popen(
        [shell, *START[shell].split(), "-i"],
        cwd=project,
        env=env,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)

    def pressed(text: str, key: str = "\t") -> tuple[str, str]:
        line, seen, end = project.parent / "line", b"", time.monotonic() + 60
        os.write(ours, f"{text}{key}\x0f".encode())
        while not line.exists():
            assert time.monotonic() < end, f"no answer:\n{seen.decode()}"
            if select.select([ours], [], [], 0.02)[0]:
                seen += os.read(ours, 65536)
        found = line.read_text()
        line.unlink()
        os.write(ours, b"\x15")
        return found, seen.decode()

    start = f"{SHELLS[shell]}\nsource ../broken/scripts/completion.{shell}\nsource scripts/completion.{shell}\n"
    os.write(ours, start.encode())
    yield pressed
    process.kill()
    process.wait()
    os.close(ours)


@pytest.mark.parametrize("press", SHELLS, indirect=True)
def test_the_tab_key_completes_a_line(press: Press, project: Path, request: pytest.FixtureRequest) -> None:
    press("")  # wait until the shell has started
    in_bash = "bash" in request.node.name
    for typed, completed in TYPED + (IN_BASH if in_bash else []):
        line, shown = press(typed)
        assert line == completed
        for word in ("error", "Error", "Traceback", "not found", "Unknown"):
            assert word not in shown, shown
    if in_bash:
        keys = press("scripts/train.sh scheduler.", "\x14")[0].split()[1:]
        assert keys == ["scheduler.args.", "scheduler.every=", "scheduler.name="]
    assert not [*project.parent.rglob("x")], "something was run"


@pytest.mark.parametrize("press", SHELLS, indirect=True)
def test_a_completed_name_is_read_back_as_it_is(press: Press, project: Path, request: pytest.FixtureRequest) -> None:
    shell = request.node.callspec.params["press"]
    for quote in ("", "'", '"') if shell == "bash" else ("",):
        line, _ = press(f"scripts/test.sh {quote}a")
        words = line.removeprefix("scripts/test.sh")
        done = run(shell, "-c", f"printf '<%s>' {words}", cwd=project)
        assert done.stdout == f"<{NASTY}>"
    assert not [*project.parent.rglob("x")], "something was run"


def completed(project: Path, *lines: str) -> list[list[str]]:
    """The candidates for the last word of each line, in one process, which does not import torch."""
    words = [[*shlex.split(line), ""] if line.endswith(" ") else shlex.split(line) for line in lines]
    [package] = (path.parent.name for path in project.glob("src/*/cli.py"))
    done = in_project(project, "-c", INSIDE, json.dumps(words), package, cold=True)
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_values_are_those_that_the_project_takes_without_torch(project: Path) -> None:
    own, torchs, metrics, trackers, splits, args, runs, folders, train, device = completed(
        project,
        "train model.name=",
        "train optimizer.name=",
        "train checkpoint.monitor=",
        "train run.tracker=",
        "test --split ",
        "train model.name=cnn model.args.",
        "runs compare ",
        "runs --checkpoints ",
        "train ",
        "train run.device=",
    )
    assert {"model.name=cnn", "model.name=resnet"} <= {*own}
    assert {"optimizer.name=Lion", "optimizer.name=AdamW", "optimizer.name=SGD"} <= {*torchs}
    assert "optimizer.name=LBFGS" not in torchs  # the training loop refuses it
    assert metrics == ["checkpoint.monitor=loss", "checkpoint.monitor=loss", "checkpoint.monitor=top5"]
    assert trackers == ["run.tracker=none"]
    assert splits == ["train", "valid", "test"]
    assert args == ["model.args.width=", "model.args.dropout="]  # the data determine the other arguments
    assert {NASTY, "lr=0.1", "optimizer."} <= {*runs}
    assert "compare" not in runs
    assert "checkpoints/" in folders
    assert {"configs/", "model.", "data/"} <= {*train}
    assert "README.md" not in train
    assert device == [f"run.device={name}" for name in ("auto", "cpu", "cuda", "cuda:1", "mps")]


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_each_key_of_each_kind_is_completed(render: Render, kind: str) -> None:
    config_format = ("json", "ini", "py")[KINDS.index(kind) % 3]
    project = render(data_kind=kind, config_format=config_format, extras="schema", package_name="renamed")
    sections = completed(project, "train ")[0]
    keys = completed(project, *(f"train {section}" for section in sections if section.endswith(".")))
    assert all(keys)
    words = [f"train {key}" for found in keys for key in found]
    assert len(words) > 50
    completed(project, *words)
