"""For every combination of answers, formatting or linting a fresh project changes nothing."""

import ast
import itertools
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml
from conftest import EXTRAS, ROOT, Render, in_project, mypy_cache, of_the_day, run, tree
from test_configs import KINDS

ANSWERS = {
    "package_name": ["my_project", "ab", "z" * 30],
    "project_name": ["My project", "숫자 🙂"],
    "description": ["", "w" * 200],
    "user_name": ["", "Lee"],
    "user_email": ["", "lee@example.com"],
    "license": ["MIT", "Apache-2.0", "BSD-3-Clause", "GPL-3.0-or-later", "none"],
    "data_kind": KINDS,
    "config_format": ["yaml", "json", "ini", "py"],
    "components": ["file", "folder"],
    "tracker": ["none", "tensorboard", "mlflow", "wandb", "trackio"],
    "extras": ["", "sweep", "submitit docker", "export docs_site", EXTRAS],
    "ci": ["github", "gitlab", "none"],
}


def pairwise(choices: dict[str, list[str]]) -> list[dict[str, str]]:
    """Few rows in which any two choices of different questions meet at least once."""
    rows: list[dict[str, str]] = []
    missing = {
        pair
        for (a, values_a), (b, values_b) in itertools.combinations(choices.items(), 2)
        for pair in itertools.product([(a, value) for value in values_a], [(b, value) for value in values_b])
    }
    while missing:
        row = dict(min(missing))
        for question in sorted(choices, key=lambda question: -len(choices[question])):
            if question not in row:
                row[question] = max(choices[question], key=lambda value: len(met(row | {question: value}) & missing))
        missing -= met(row)
        rows.append({question: row[question] for question in choices})
    return rows


def met(row: dict[str, str]) -> set[tuple[tuple[str, str], tuple[str, str]]]:
    items = [(question, row[question]) for question in ANSWERS if question in row]
    return set(itertools.combinations(items, 2))


COMBINATIONS = pairwise(ANSWERS)
LAYERS = [*([[]] * 6), *([[pytest.mark.slow]] * 10), *([[pytest.mark.exhaustive]] * len(COMBINATIONS))]
SOME_QUICK = [pytest.param(row, marks=marks) for row, marks in zip(COMBINATIONS, LAYERS, strict=False)]


def name(answers: dict[str, str]) -> str:
    return "-".join(value[:8] or "empty" for value in answers.values() if value.isascii())


def test_a_few_combinations_cover_every_pair_of_answers() -> None:
    seen = set().union(*map(met, COMBINATIONS))
    sizes = [len(values) for values in ANSWERS.values()]
    assert len(seen) == sum(a * b for a, b in itertools.combinations(sizes, 2))
    assert len(COMBINATIONS) <= 55


@pytest.mark.parametrize("answers", SOME_QUICK, ids=name)
def test_ruff_has_nothing_to_change(render: Render, answers: dict[str, str]) -> None:
    project = render(**answers)
    for command in (["check"], ["format", "--check", "--diff"]):
        done = run(sys.executable, "-m", "ruff", *command, "--no-cache", cwd=project, ok=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("answers", SOME_QUICK, ids=name)
def test_hooks_for_white_space_have_nothing_to_change(render: Render, answers: dict[str, str]) -> None:
    for path, (content, _) in tree(render(**answers)).items():
        if b"\0" in content or not content:
            continue
        lines = content.split(b"\n")
        assert lines[-1] == b"", f"{path}: no line end at its end"
        assert lines[-2] != b"", f"{path}: blank lines at its end"
        assert not [n for n, line in enumerate(lines, 1) if line != line.rstrip()], f"{path}: blanks at a line's end"
        assert not any(line.startswith((b"<<<<<<< ", b">>>>>>> ", b"=======")) for line in lines), path


def mypy(project: Path) -> str:
    with mypy_cache() as cache:
        return in_project(project, "-m", "mypy", "--cache-dir", cache, ok=False).stdout


# Each kind of data, each tracker and each layout, alternately without extras and with all of them: no other answer
# affects a file of the package.
TYPED = [
    {
        "data_kind": KINDS[number % len(KINDS)],
        "tracker": tracker,
        "components": components,
        "extras": EXTRAS if number % 2 else "",
    }
    for number, (components, tracker) in enumerate(itertools.product(ANSWERS["components"], ANSWERS["tracker"]))
]


@pytest.mark.parametrize("answers", [TYPED[0], *of_the_day(TYPED[1:], 5, pytest.mark.slow)], ids=name)
def test_mypy_reports_nothing(render: Render, answers: dict[str, str]) -> None:
    assert mypy(render(**answers)).startswith("Success")


@pytest.mark.slow
def test_mypy_finds_a_planted_error(project: Path) -> None:
    with (project / "src" / "my_project" / "errors.py").open("a") as module:
        module.write('\nnumber: int = "text"\n')
    assert "Incompatible types" in mypy(project)


def test_ruff_finds_a_planted_error_in_every_python_file(project: Path) -> None:
    modules = [*project.rglob("*.py")]
    for module in modules:
        shutil.copy(module, module.with_name("copy_" + module.name))
        module.write_text(module.read_text() + "import os\n")
    found = run(sys.executable, "-m", "ruff", "check", "--no-cache", cwd=project, ok=False).stdout
    assert all(str(module.relative_to(project)) in found for module in modules)


@pytest.mark.parametrize("place", [".", "template/project"])
def test_pre_commit_pins_the_same_ruff_as_constraints(place: str) -> None:
    pins = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if line.count("==") == 1
    )
    config = yaml.safe_load((ROOT / place / ".pre-commit-config.yaml").read_text())
    revisions = {repository["repo"].rpartition("/")[2]: repository.get("rev") for repository in config["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{pins['ruff']}"


def test_every_python_file_of_the_template_can_be_read_as_python() -> None:
    """Editors, ctags and linters do. In `.py.jinja`, Jinja is only the package's name, and lines of `{% … %}`."""
    files = [path for path in (ROOT / "template").rglob("*.py.jinja") if path.is_file()]
    for file in [*files, *(ROOT / "template").rglob("*.py")]:
        text = re.sub(r"^{%.*%}$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
        ast.parse(text.replace("{{ package_name }}", "package") if file.suffix == ".jinja" else text, str(file))
    assert len(files) > 30
    assert (ROOT / ".ctags.d" / "template.ctags").read_text().splitlines()[0] == "--map-Python=+(*.py.jinja)"


def test_constraints_use_only_markers_that_their_check_reads() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if ";" in line]
    assert all(re.fullmatch(r'[\w.-]+==[\w.]+; python_full_version (<|>=) "[\d.]+"', line) for line in lines), lines


def test_the_line_of_each_planted_fault_is_still_there_once() -> None:
    faults = yaml.safe_load((ROOT / "tests" / "planted.yml").read_text(encoding="utf-8"))
    counts = {
        fault["breaks"]: (ROOT / fault["file"]).read_text(encoding="utf-8").count(fault["old"]) for fault in faults
    }
    assert {breaks: count for breaks, count in counts.items() if count != 1} == {}
