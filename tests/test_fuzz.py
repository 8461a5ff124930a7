"""With random edits of owner and template, an update loses no line and reports what is left to do.

The seed determines a case: random answers and edits, and often a random next version. The update is undone and run
again: while the owner saves a file, or after a kill and a clean-up. The first seed changes every day; the output begins
with it. `make fuzz N=500` tries many cases; `make fuzz N=1 SEED=17` repeats one. One in twenty is updated by
Copier itself, with timing that no seed can repeat. The others are updated in this process, which is faster: by the
command line, or by the two stages that Copier runs.
"""

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import NEXT, command, copier_update, copy, git, run, save, tree, unmerged, update, update_words
from moments import Case, at, state, undo
from owner import MARK, Owner

pytestmark = pytest.mark.slow

FIRST, COUNT = int(os.environ["SEED"]), int(os.environ.get("N", 6))
ANSWERS = {
    "package_name": ["my_project", "net"],
    "components": ["file", "folder"],
    "tracker": ["none", "tensorboard"],
    "config_format": ["yaml", "json", "ini", "py"],
    "license": ["MIT", "Apache-2.0", "none"],
}
LATER_ANSWERS = {  # for questions that the first releases lack
    "extras": ["", "sweep", "export docker", "docs_site weekly"],
    "ci": ["github", "gitlab", "none"],
}
IGNORED = ["checkpoints/run/best.pt", "data/train/a/1.png", ".venv/bin/python", "images/result/mine.png"]
LATER = "v9999.0.1"


def next_version(template: Path, rng: random.Random, is_owned: Callable[[str], bool]) -> None:
    """Change the template at random: lines, and paths of merged files."""
    root = template / "template" / "project"
    for _ in range(rng.randint(1, 12)):
        paths = [path for path in root.rglob("*") if path.is_file() and b"\0" not in path.read_bytes()]
        paths = [path for path in paths if "answers_file" not in path.name]  # Copier's
        path = rng.choice(sorted(paths))
        name = path.relative_to(root).as_posix().removesuffix(".jinja").replace("{{package_name}}", "p")
        action = rng.choice(["insert", "insert", "replace", "replace", "delete lines", "move", "remove", "add"])
        lines = path.read_text().splitlines(keepends=True)
        at = rng.randint(0, len(lines))
        if action in ("insert", "replace", "delete lines"):
            new = [] if action == "delete lines" else [f"TEMPLATE {rng.random()}\n"]
            end = at if action == "insert" else min(len(lines), at + rng.randint(1, 3))
            branches = any("{%" in line for line in lines)
            if not branches and not any("{{" in line for line in lines[at:end]):
                path.write_text("".join([*lines[:at], *new, *lines[end:]]))
        elif "%}" in name or "}}" in name or is_owned(name):
            continue  # moves of owners' files must be declared; the tests of releases cover them
        elif action == "move":
            folder = rng.choice([path.parent / "moved", root / "elsewhere"])
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
        elif action == "remove":
            path.unlink()
        else:
            (path.parent / f"new_{at}.md").write_text("".join(f"TEMPLATE {rng.random()}\n" for _ in range(5)))


def own_lines(project: Path) -> set[str]:
    """All lines of the owner, in any file."""
    contents = (content.decode(errors="replace") for content, _ in tree(project).values())
    return {line.strip() for text in contents for line in text.splitlines() if line.startswith(MARK)}


def same(one: tuple[bytes, int], other: tuple[bytes, int]) -> bool:
    return one[0].replace(b"\r\n", b"\n") == other[0].replace(b"\r\n", b"\n") and one[1] == other[1]


def go_back(project: Path, said: str, rng: random.Random) -> None:
    """Undo by the printed command or by the command line."""
    if rng.random() < 0.5:
        run("sh", "-c", said.split("To undo: ")[1].splitlines()[0], cwd=project)
    else:
        assert "is undone" in undo(project)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_an_update_loses_nothing(
    seed: int,
    template: Path,
    releases: list[str],
    rules: ModuleType,
    tmp_path: Path,
) -> None:
    rng, is_owned = random.Random(seed), rules.is_owned
    old = {key: rng.choice(values) for key, values in ANSWERS.items()}
    new = {key: rng.choice(values) for key, values in (ANSWERS | LATER_ANSWERS).items() if rng.random() < 0.15}
    start = rng.choice([*releases, NEXT])
    clone, project, fresh = tmp_path / "template", tmp_path / "project", tmp_path / "fresh"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    target = NEXT
    if start == NEXT or rng.random() < 0.6:
        next_version(clone, rng, is_owned)
        save(clone, "later")
        git("tag", LATER, cwd=clone)
        target = LATER

    copy(clone, project, start, **old)
    save(project, "new project")
    begun = tree(project)
    owner, folder = Owner(project, rng), project / "src" / old["package_name"]
    if rng.random() < 0.1:  # renamed by hand, and passed to the update as an answer
        new["package_name"] = "own_package"
        folder = folder.rename(folder.with_name("own_package"))
    owner.work()
    save(project, "own work")
    for name in IGNORED:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(rng.randbytes(20))
    save(project, "nothing, since these are ignored")
    tracked = git("ls-files", "-z", cwd=project).split("\0")  # includes the exceptions of .gitignore
    owner.ignored = [name for name in [*IGNORED, *owner.ignored] if name not in tracked and (project / name).exists()]
    before, written = tree(project), own_lines(project)
    by_copier, by_command = seed % 20 == 0, rng.random() < 0.5
    given = [word for key, value in new.items() for word in ("-d", f"{key}={value.replace(' ', ',')}")]

    def by_stages() -> "subprocess.CompletedProcess[str]":
        return update(project, target, ok=False, **new)

    def by_door() -> "subprocess.CompletedProcess[str]":
        if by_copier:
            words = update_words(target, **new)
            return run(sys.executable, *words, cwd=project, ok=False)  # not warm: a case stops or kills its group
        if by_command:
            return command(project, "--defaults", "--to", target, *given, ok=False)
        return by_stages()

    case = Case(project, owner, rng, by_door, by_stages if by_copier else by_door, state(project))
    begin = time.monotonic()
    with at(0, print) as commands:
        done = by_door()
    case.seconds = time.monotonic() - begin
    after, conflicts = tree(project), unmerged(project)
    case.after, case.commands, case.said = state(project), len(commands), done.stdout
    go_back(project, done.stdout, rng)
    assert state(project) == case.before, "the way back leads back"
    assert git("status", "--porcelain", cwd=project) == ""
    copy(clone, fresh, target, **{**old, **new})
    made = tree(fresh)
    case.rendered = frozenset({*begun, *made})
    if rng.random() < 0.1:
        case.refused_for_a_link(project / "src" / old["package_name"])  # where the template has it
    saves = case.while_copier_runs_and_the_owner_saves if by_copier else case.while_the_owner_saves
    rng.choice([saves, case.killed_and_cleaned_up])()
    if tree(project) == before:
        case.again()

    assert "Traceback" not in done.stderr, done.stderr
    assert "error: " not in done.stderr, done.stderr
    assert done.returncode == (1 if conflicts else 0), "the exit status tells of conflicts"
    assert written <= own_lines(project), "every line of the owner is there"
    assert not [name for name in after if name.endswith(".rej")]
    for name in owner.ignored:
        assert after[name] == before[name], f"{name} is ignored, and changed"
    marked = [name for name, (content, _) in after.items() if b"\n<<<<<<< " in b"\n" + content]
    marked = [name for name in marked if name not in case.after[1]]  # a link has the lines of its target
    assert set(marked) <= set(conflicts), "all marks are of conflicts"

    package, renamed = (f"src/{answers['package_name']}/" for answers in (old, {**old, **new}))

    def place(name: str) -> str:
        return name.replace(package, renamed, 1) if name.startswith(package) else name

    touched = (
        {name for name, was in begun.items() if before.get(name) != was}
        | (set(before) - set(begun))
        | set(owner.ignored)
    )
    touched_names = {Path(name).name for name in touched}
    moves = rules.declared(rules.Version(start), rules.Version(target))
    touched_names |= {Path(rules.follow(name, moves)).name for name in touched}
    for name, content in made.items():
        if is_owned(name) or name == ".copier-answers.yml" or Path(name).name in touched_names or name in conflicts:
            continue
        if not any(name.startswith(f"{renamed}{part}/") for part in ("loss", "optim", "scheduler", "transforms")):
            assert any(same(content, there) for path, there in after.items() if Path(path).name == Path(name).name), (
                f"{name} was not touched, and is not what a new project has"
            )
    for name in owner.deleted - set(before):
        assert name not in after, f"{name} was deleted, and is back"
        assert place(name) not in after, f"{name} was deleted, and is back"
    if not any(old.get(key) != value for key, value in new.items()):
        for name in set(begun) & set(before):
            joined = "transforms/" in name and name not in touched
            if is_owned(name) and not joined:
                assert after[name] == before[name], f"{name} is the owner's, and changed"

    save(project, "updated")
    after = tree(project)
    assert "nothing to do" in (copier_update if by_copier else update)(project, target).stdout
    assert tree(project) == after, "a second update changes nothing"
    shutil.rmtree(tmp_path)
