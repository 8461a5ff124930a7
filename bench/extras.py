"""The cost of each optional part in files and packages: the table of docs/extras.md.

    .venv/bin/python bench/extras.py

Each option is measured twice. Chosen alone, its project is compared with one that has no option of this question and
defaults elsewhere; an extra for texts is measured in projects with texts. Not chosen, in a project with all other
options, it shows whether it leaves files or packages. The installed packages are found in this environment, by each
package's requirements that apply to this machine.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extras.md"
BEGIN, END = "<!-- made by bench/extras.py -->\n", "<!-- until here -->\n"
QUESTIONS = ("tracker", "extras", "ci")
OF_TEXTS = ["transformers"]  # they don't fit the default kind of data
NEAR = ["pretrained", "optimizers", "export", "hub"]  # the others that these have to do with; all would take long
TEXTS = "text_classification"
ABSENT = {"torchvision": ["numpy", "pillow", "torch"]}  # its requirements; constraints.txt says why it isn't installed
MOST = 15  # packages of the default project, without torch, numpy and their dependencies

Render = Callable[..., Path]


class Parts(NamedTuple):
    """The files of a project, and its requirements by package name."""

    files: set[str]
    packages: dict[str, str]


class Row(NamedTuple):
    """One option: what it adds if it is chosen, and what it leaves if it isn't."""

    question: str
    option: str
    idle: Parts
    added: Parts


def options(question: str) -> list[str]:
    """The answers to a question of copier.yml that add files or packages."""
    choices = yaml.safe_load((ROOT / "copier.yml").read_text())[question]["choices"]
    names = choices.values() if isinstance(choices, dict) else choices
    return [name for name in names if name != "none"]


def parts(project: Path) -> Parts:
    """The files of a project, and the packages that `make install` may install, optional ones included."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    groups = [about["dependencies"], *about.get("optional-dependencies", {}).values()]
    files = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    files = {name for name in files if "__pycache__" not in name}
    return Parts(files, {re.split(r"[^\w.-]", line)[0].lower(): line for group in groups for line in group})


def measure(render: Render) -> list[Row]:
    """Measure each option. `render` makes a project with the given answers; `extras` is a text of words."""
    rows = []
    for question in QUESTIONS:
        for option in options(question):
            kind = {"data_kind": TEXTS} if option in OF_TEXTS else {}
            none = kind | ({"ci": "none"} if question == "ci" else {})
            fitting = [*NEAR, option] if kind else [name for name in options("extras") if name not in OF_TEXTS]
            base = parts(render(**none))
            single = {name: parts(render(**none, extras=name)) for name in fitting}
            others = [name for name in fitting if name != option]
            rest = parts(render(**none, extras=" ".join(others)))
            chosen = single[option] if question == "extras" else parts(render(**kind, **{question: option}))
            idle = minus(rest, [base, *(single[name] for name in others)])
            rows.append(Row(question, option, idle, minus(chosen, [base])))
    return rows


def minus(whole: Parts, others: Iterable[Parts]) -> Parts:
    """The items of the first that are in none of the others."""
    files, packages = set(whole.files), dict(whole.packages)
    for other in others:
        files -= other.files
        packages = {name: line for name, line in packages.items() if name not in other.packages}
    return Parts(files, packages)


def installed(requirements: Iterable[str]) -> set[str]:
    """These packages and all their dependencies; SystemExit if one is not installed."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(line), "") for line in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                needs = ABSENT.get(name) or metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                raise SystemExit(
                    f"{name} is not installed: run this with .venv/bin/python, after `make check`"
                ) from None
            found.add(name)
            waiting += [(Requirement(line), wanted) for line in needs]
    return found


def core(render: Render) -> set[str]:
    """The packages of the default project, without torch, numpy and their dependencies."""
    about = tomllib.loads((render() / "pyproject.toml").read_text())["project"]
    return installed(about["dependencies"]) - installed(["torch", "numpy"])


def table(rows: list[Row], usual: set[str]) -> str:
    """The table in Markdown; `installed` counts packages that the default project does not have."""
    lines = ["| | not chosen: files | packages | chosen: files | packages | installed |", "|---|---|---|---|---|---|"]
    for question, option, idle, added in rows:
        counts = len(idle.files), len(idle.packages), len(added.files), len(added.packages)
        brought = len(installed(added.packages.values()) - usual)
        lines.append(f"| `{question}`: `{option}` | {' | '.join(map(str, counts))} | {brought} |")
    return "\n".join(lines) + "\n"


def page(text: str, rows: list[Row], packages: set[str], usual: set[str]) -> str:
    """The text of docs/extras.md with a new table."""
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    names = ", ".join(sorted(packages))
    said = f"The default project installs {len(packages)} packages on top of torch and numpy: {names}.\n"
    return f"{before}{BEGIN}\n{said}\n{table(rows, usual)}\n{END}{after}"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template"
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
        for name in filter(None, names):
            if (ROOT / name).exists():
                (template / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, template / name)
        made: dict[str, Path] = {}

        def render(**answers: str) -> Path:
            key = repr(sorted(answers.items()))
            if key not in made:
                made[key] = Path(folder) / str(len(made))
                lists = {name: str(value.split()) if name == "extras" else value for name, value in answers.items()}
                given = [f"--data={name}={value}" for name, value in lists.items()]
                copy = ["copier", "copy", "--defaults", "--quiet", *given, str(template), str(made[key])]
                subprocess.run([sys.executable, "-W", "ignore", "-m", *copy], check=True)
            return made[key]

        rows, packages = measure(render), core(render)
        usual = installed(parts(render()).packages.values())
    text = page(PAGE.read_text(), rows, packages, usual)
    PAGE.write_text(text)
    print(text.partition(BEGIN)[2].partition(END)[0].strip())
    if len(packages) > MOST:
        raise SystemExit(f"{len(packages)} packages: a default project may have at most {MOST}")


if __name__ == "__main__":
    main()
