"""A command that is forked from a warm server behaves as in a new interpreter."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import warm
from conftest import any_command, in_project, run, start, with_copier

pytestmark = pytest.mark.skipif(not warm.AVAILABLE, reason="all commands are cold, on this system")

SHOW = "import os, sys; print(__name__, sys.argv[1:], os.getcwd(), sys.path[0], os.environ.get('OWN'))"
COMMANDS = {
    "code": ["-c", SHOW, "one", "two words"],
    "a module": ["-m", "shown", "one"],
    "a script": ["folder/script.py", "one"],
    "a folder": ["folder", "one"],
    "a status": ["-c", "import sys; sys.exit(75)"],
    "a message": ["-c", "raise SystemExit('error: no')"],
    "an exception": ["-c", "print('before'); 1 / 0"],
    "killed": ["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"],
    "at the end": ["-c", "import atexit; atexit.register(print, 'at the end'); print('first')"],
    "a thread": [
        "-c",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.2), print('done'))).start()",
    ],
    "both streams": ["-c", "import os; print('out'); os.write(2, b'error\\n')"],
    "its own process": [
        "-c",
        "import os, torch; print(os.getpid() == os.getpgid(0) or 'group', torch.get_num_threads())",
    ],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shown.py").write_text(SHOW)
    (tmp_path / "folder").mkdir()
    for name in ("script.py", "__main__.py"):
        (tmp_path / "folder" / name).write_text(SHOW)
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_a_warm_command_prints_and_exits_like_a_cold_one(project: Path, name: str) -> None:
    warm_one, cold_one = (
        in_project(project, *COMMANDS[name], ok=False, cold=cold, OWN="own") for cold in (False, True)
    )
    assert warm_one.returncode == cold_one.returncode
    assert warm_one.stdout == cold_one.stdout
    assert warm_one.stderr.splitlines()[-1:] == cold_one.stderr.splitlines()[-1:]


def test_copier_and_what_it_starts_have_their_own_folder_and_environment(project: Path) -> None:
    show = "import os, sys; from plumbum import local; copier = 'copier' in sys.modules; "
    show += "print(copier, os.getcwd(), local.cwd, local.env['OWN'], flush=True)"
    start_another = "import subprocess; subprocess.run([sys.executable, '-c', *sys.argv[1:]], cwd='folder', check=True)"
    said = with_copier("-c", f"{show}; {start_another}", show, cwd=project, OWN="own").stdout
    assert said.splitlines() == [f"True {place} {place} own" for place in (project, project / "folder")]


def test_a_signal_ends_a_warm_command_and_is_in_its_status(project: Path) -> None:
    with open(os.devnull, "r+b") as nothing:
        process = start(project, "-c", "import time; time.sleep(60)", files=[nothing] * 3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == -signal.SIGTERM


def test_the_stand_in_for_python_forwards_signals_and_status(project: Path, python: Path) -> None:
    (project / "src" / "my_project").mkdir()
    (project / "src" / "my_project" / "__init__.py").touch()
    code = (
        "import signal, sys, time\nsignal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))\nprint('ready', flush=True)\n"
    )
    (project / "src" / "my_project" / "__main__.py").write_text(code + "time.sleep(60)\n")
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    command: list[str | Path] = [python, "-P", "-m", "my_project"]
    with subprocess.Popen(command, cwd=project, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.wait(10) == 75
    cold = run(python, "-c", "import sys; print(sys.executable)", cwd=project)
    assert cold.stdout.strip() == sys.executable


def test_the_stand_in_for_python_ends_by_the_signal_of_its_command(project: Path) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        code = f"import os\nos.kill(os.getpid(), {int(number)})"
        assert run(any_command(), "-c", code, cwd=project, ok=False).returncode == -number


def test_a_warm_command_ends_when_its_caller_is_killed(project: Path, python: Path) -> None:
    (project / "src" / "my_project").mkdir()
    code = "import os, time\nopen('pid', 'w').write(str(os.getpid()))\nprint(flush=True)\ntime.sleep(60)\n"
    (project / "src" / "my_project" / "__main__.py").write_text(code)
    env = os.environ | {"PYTHONPATH": str(project / "src")}
    with subprocess.Popen([python, "-m", "my_project"], cwd=project, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
    pid = (project / "pid").read_text()
    for _ in range(500):
        if not Path("/proc", pid).exists():
            return
        time.sleep(0.01)
    raise AssertionError("it still runs")


def test_tests_and_their_commands_have_one_place_for_temporary_folders(project: Path) -> None:
    """It is in memory where it can be; see docs/testing.md."""
    code = "import tempfile\nprint(tempfile.gettempdir())"
    assert in_project(project, "-c", code).stdout.strip() == tempfile.gettempdir() == os.environ["TMPDIR"]
