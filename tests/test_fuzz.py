"""Whatever the owner and the template did, an update loses no line, and says so if anything is left to do.

Each case is made by its seed alone: random answers and edits, and often a random next version. Each day begins with
another seed, which the first lines of the tests' output give. `make fuzz N=500` tries many; `make fuzz N=1 SEED=17`
repeats one. One in twenty is updated by Copier itself, the others by the template's script alone, which is quicker.
"""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import NEXT, copier_update, copy, extension, git, run, save, tree, unmerged, update

pytestmark = pytest.mark.slow

FIRST, COUNT = int(os.environ["SEED"]), int(os.environ.get("N", 16))
ANSWERS = {
    "package_name": ["my_project", "net"],
    "components": ["file", "folder"],
    "tracker": ["none", "tensorboard"],
    "config_format": ["yaml", "json", "ini", "py"],
    "license": ["MIT", "Apache-2.0", "none"],
}
LATER_ANSWERS = {  # to questions that the first releases did not ask
    "extras": ["", "sweep", "export docker", "docs_site weekly"],
    "ci": ["github", "gitlab", "none"],
}
IGNORED = ["checkpoints/run/best.pt", "data/train/a/1.png", ".venv/bin/python", "images/result/mine.png"]
LATER = "v9999.0.1"
MARK = "OWN"


class Owner:
    """Does random things to a project; what is written bears `MARK` and a number."""

    def __init__(self, project: Path, rng: random.Random) -> None:
        self.project, self.rng, self.count = project, rng, 0
        self.deleted: set[str] = set()

    def line(self) -> str:
        self.count += 1
        return f"{MARK} {self.count} {self.rng.random()}\n"

    def files(self, binary: bool = False) -> list[Path]:
        names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=self.project).split("\0")
        paths = [self.project / name for name in names if name and name != ".copier-answers.yml"]
        paths = [path for path in paths if path.is_file() and not path.is_symlink()]
        return [path for path in paths if (b"\0" in path.read_bytes()) == binary]

    def any_file(self) -> Path:
        return self.rng.choice(self.files())

    def edit(self, do: Callable[[list[str], int], None]) -> None:
        path = self.any_file()
        lines = path.read_bytes().decode().splitlines(keepends=True)
        do(lines, self.rng.randint(0, len(lines)))
        path.write_bytes("".join(lines).encode())

    def insert(self) -> None:
        self.edit(lambda lines, at: lines.insert(at, self.line()))

    def insert_many(self) -> None:
        self.edit(lambda lines, at: lines.__setitem__(slice(at, at), [self.line() for _ in range(8)]))

    def replace(self) -> None:
        self.edit(lambda lines, at: lines.__setitem__(slice(at, at + self.rng.randint(1, 3)), [self.line()]))

    def remove_lines(self) -> None:
        self.edit(lambda lines, at: lines.__delitem__(slice(at, at + self.rng.randint(1, 5))))

    def append(self) -> None:
        self.edit(lambda lines, at: lines.append(self.line()))

    def repeat_a_block(self) -> None:
        def repeat(lines: list[str], at: int) -> None:
            block = lines[at : at + 5]
            lines[at:at] = [*block, *block, self.line(), *block]

        self.edit(repeat)

    def rename(self) -> None:
        path = self.any_file()
        path.rename(path.with_name(f"own_{self.count}_{path.name}"))

    def move(self) -> None:
        path = self.any_file()
        folder = self.rng.choice([self.project / "own folder", self.any_file().parent])
        folder.mkdir(exist_ok=True)
        if not (folder / path.name).exists():
            path.rename(folder / path.name)

    def delete(self) -> None:
        path = self.any_file()
        path.unlink()
        self.deleted.add(path.relative_to(self.project).as_posix())

    def add(self) -> None:
        folder = self.any_file().parent
        (folder / f"own_{self.count}.py").write_text("".join(self.line() for _ in range(3)))

    def change_mode(self) -> None:
        path = self.any_file()
        path.chmod(path.stat().st_mode ^ 0o111)

    def change_a_binary(self) -> None:
        if paths := self.files(binary=True):
            self.rng.choice(paths).write_bytes(b"\0own\0" + self.rng.randbytes(50))

    def turn_line_ends(self) -> None:
        path = self.any_file()
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    def work(self) -> None:
        actions = (
            [self.insert, self.insert_many, self.replace, self.remove_lines, self.append, self.repeat_a_block] * 3
            + [self.rename, self.move, self.delete, self.add] * 2
            + [self.change_mode, self.change_a_binary, self.turn_line_ends]
        )
        for _ in range(self.rng.randint(1, 25)):
            self.rng.choice(actions)()


def next_version(template: Path, rng: random.Random, is_yours: Callable[[str], bool]) -> None:
    """Random changes of the template: of lines, and of the places of what is merged."""
    root = template / "template" / "project"
    for _ in range(rng.randint(1, 12)):
        paths = [path for path in root.rglob("*") if path.is_file() and b"\0" not in path.read_bytes()]
        paths = [path for path in paths if "answers_file" not in path.name]  # Copier's
        path = rng.choice(sorted(paths))
        name = path.relative_to(root).as_posix().removesuffix(".jinja").replace("{{ package_name }}", "p")
        action = rng.choice(["insert", "insert", "replace", "replace", "delete lines", "move", "remove", "add"])
        lines = path.read_text().splitlines(keepends=True)
        at = rng.randint(0, len(lines))
        if action in ("insert", "replace", "delete lines"):
            new = [] if action == "delete lines" else [f"TEMPLATE {rng.random()}\n"]
            end = at if action == "insert" else min(len(lines), at + rng.randint(1, 3))
            branches = any("{%" in line for line in lines)
            if not branches and not any("{{" in line for line in lines[at:end]):
                path.write_text("".join([*lines[:at], *new, *lines[end:]]))
        elif "%}" in name or "}}" in name or is_yours(name):
            continue  # moves of what is the owner's are declared, and tested with the releases
        elif action == "move":
            folder = rng.choice([path.parent / "moved", root / "elsewhere"])
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
        elif action == "remove":
            path.unlink()
        else:
            (path.parent / f"new_{at}.md").write_text("".join(f"TEMPLATE {rng.random()}\n" for _ in range(5)))


def own_lines(project: Path) -> set[str]:
    """All lines of the owner, wherever they are."""
    contents = (content.decode(errors="replace") for content, _ in tree(project).values())
    return {line.strip() for text in contents for line in text.splitlines() if line.startswith(MARK)}


def same(one: tuple[bytes, int], other: tuple[bytes, int]) -> bool:
    return one[0].replace(b"\r\n", b"\n") == other[0].replace(b"\r\n", b"\n") and one[1] == other[1]


def go_back(project: Path, said: str, rng: random.Random) -> None:
    """By the command that is printed, or by the command line."""
    if rng.random() < 0.5:
        run("sh", "-c", said.split("Go back: ")[1].splitlines()[0], cwd=project)
    else:
        undo = extension("update.snapshot").undo
        assert "is undone" in undo(extension("update.project").Project(project, ".copier-answers.yml"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_an_update_loses_nothing(
    seed: int,
    template: Path,
    releases: list[str],
    rules: ModuleType,
    tmp_path: Path,
) -> None:
    rng, is_yours = random.Random(seed), rules.is_yours
    old = {key: rng.choice(values) for key, values in ANSWERS.items()}
    new = {key: rng.choice(values) for key, values in (ANSWERS | LATER_ANSWERS).items() if rng.random() < 0.15}
    start = rng.choice([*releases, NEXT])
    clone, project, fresh = tmp_path / "template", tmp_path / "project", tmp_path / "fresh"
    git("clone", "--quiet", template, clone, cwd=tmp_path)
    target = NEXT
    if start == NEXT or rng.random() < 0.6:
        next_version(clone, rng, is_yours)
        save(clone, "later")
        git("tag", LATER, cwd=clone)
        target = LATER

    copy(clone, project, start, **old)
    save(project, "new project")
    begun = tree(project)
    owner = Owner(project, rng)
    owner.work()
    save(project, "own work")
    for name in IGNORED:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(rng.randbytes(20))
    save(project, "nothing, since these are ignored")
    before, written = tree(project), own_lines(project)
    by_copier = seed % 20 == 0
    done = (copier_update if by_copier else update)(project, target, ok=False, **new)
    after = tree(project)
    conflicts = unmerged(project)
    go_back(project, done.stdout, rng)
    assert tree(project) == before, "the way back leads back"
    assert git("status", "--porcelain", cwd=project) == ""
    update(project, target, ok=False, **new)
    assert (tree(project), unmerged(project)) == (after, conflicts), "an update does the same every time"

    assert "Traceback" not in done.stderr, done.stderr
    assert "No update" not in done.stderr, done.stderr
    assert done.returncode == (1 if conflicts else 0), "the exit status tells of conflicts"
    assert written <= own_lines(project), "every line of the owner is there"
    assert not [name for name in after if name.endswith(".rej")]
    for name in IGNORED:
        assert after[name] == before[name], f"{name} is ignored, and changed"
    marked = [name for name, (content, _) in after.items() if b"\n<<<<<<< " in b"\n" + content]
    assert set(marked) <= set(conflicts), "all marks are of conflicts"

    copy(clone, fresh, target, **{**old, **new})
    made = tree(fresh)
    package, renamed = (f"src/{answers['package_name']}/" for answers in (old, {**old, **new}))

    def place(name: str) -> str:
        return name.replace(package, renamed, 1) if name.startswith(package) else name

    touched = {name for name, was in begun.items() if before.get(name) != was} | (set(before) - set(begun))
    touched_names = {Path(name).name for name in touched}
    moves = rules.declared(rules.Version(start), rules.Version(target))
    touched_names |= {Path(rules.follow(name, moves)).name for name in touched}
    for name, content in made.items():
        if is_yours(name) or name == ".copier-answers.yml" or Path(name).name in touched_names or name in conflicts:
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
            if is_yours(name) and not joined:
                assert after[name] == before[name], f"{name} is the owner's, and changed"

    save(project, "updated")
    after = tree(project)
    assert "nothing to do" in (copier_update if by_copier else update)(project, target).stdout
    assert tree(project) == after, "a second update changes nothing"
    shutil.rmtree(tmp_path)
