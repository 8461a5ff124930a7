"""Random edits of an owner: each line that they write contains `MARK` and a number."""

import os
import random
from collections.abc import Callable
from pathlib import Path

from conftest import git, tree

MARK = "OWN"


class Owner:
    """Edits a project at random; `ignored` and `deleted` record some of the edits."""

    def __init__(self, project: Path, rng: random.Random) -> None:
        self.project, self.rng, self.count = project, rng, 0
        self.deleted: set[str] = set()
        self.ignored: list[str] = []

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
        if "eol: lf" not in git("check-attr", "eol", "--", path, cwd=self.project):  # else git changes them
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    def rename_a_folder(self) -> None:
        folder = self.any_file().parent
        if folder != self.project and not (new := folder.with_name(f"own_{self.count}_{folder.name}")).exists():
            folder.rename(new)

    def link_a_file(self) -> None:
        """Replace a file by a link to its new path, or a dangling one."""
        path = self.any_file()
        target = path.with_name(f"own_{self.count}_linked_{path.name}")
        if self.rng.random() < 0.7:
            path.rename(target)
        else:
            path.unlink()
        path.symlink_to(target.name)

    def link_from_elsewhere(self) -> None:
        target = self.rng.choice([self.any_file(), self.any_file().parent, self.project / "nowhere"])
        (self.project / "own folder").mkdir(exist_ok=True)
        place = self.project / "own folder" / f"link {self.count} {self.rng.randrange(10**6)}"
        place.symlink_to(os.path.relpath(target, place.parent))

    def write_in_src(self) -> None:
        names = ["tools.py", "__init__.py", "other/__init__.py", "other/task.py/notes.txt", "other/engine"]
        path = self.project / "src" / self.rng.choice(names)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.line())

    def ignore(self) -> None:
        """Untrack and ignore a file of the template, and perhaps change it."""
        path = self.any_file()
        name = path.relative_to(self.project).as_posix()
        if name in git("ls-files", "-z", cwd=self.project).split("\0") and not set(name) & set("*?[]\\"):
            git("rm", "--quiet", "--cached", name, cwd=self.project)
            with (self.project / ".git" / "info" / "exclude").open("a") as file:
                file.write(f"/{name}\n")
            self.ignored.append(name)
            path.write_bytes(path.read_bytes() + self.rng.choice([b"", b"not in git\n"]))

    def link_a_folder(self, package: Path) -> tuple[Path, Path]:
        """Replace a folder of the template by a link. Returns the link and the new path of the folder."""
        folders = [
            package,
            package / "engine",
            self.project / "docs",
            self.project / "scripts",
            self.project / "configs",
        ]
        folder = self.rng.choice([folder for folder in folders if folder.is_dir() and any(folder.iterdir())])
        new = self.project / f"own_{folder.name}"
        folder.rename(new)
        folder.symlink_to(os.path.relpath(new, folder.parent))
        return folder, new

    def work(self) -> None:
        actions = (
            [self.insert, self.insert_many, self.replace, self.remove_lines, self.append, self.repeat_a_block] * 3
            + [self.rename, self.move, self.delete, self.add] * 2
            + [self.change_mode, self.change_a_binary, self.turn_line_ends]
            + [self.rename_a_folder, self.link_a_file, self.link_from_elsewhere, self.write_in_src, self.ignore]
        )
        for _ in range(self.rng.randint(1, 25)):
            self.rng.choice(actions)()

    def save(self, after: dict[str, tuple[bytes, int]]) -> str:
        """Save a file as an editor does, at a path that an update may touch, or not; returns the path.

        Args:
            after: what the update makes of the project.
        """
        names = [path.relative_to(self.project).as_posix() for path in self.files()]
        here = tree(self.project)
        touched = [name for name in names if after.get(name) != here[name]]
        added = sorted(set(after) - set(here))  # not the answers file, which Copier writes
        kinds = [names, touched or names, touched or names, added or names, ["own notes 메모.md", "src/other/task.py"]]
        path = self.project / self.rng.choice(self.rng.choice(kinds))
        if path.is_symlink():
            return ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_bytes() if path.exists() else b""
            new = path.with_name(f"{path.name}.new")
            new.write_bytes(text.removesuffix(b"\n") + b"\n" + self.line().encode())
            if self.rng.random() < 0.5 and path.exists():
                path.write_bytes(new.read_bytes())
                new.unlink()
            else:
                new.replace(path)
        except OSError:  # such as a link, or a file where a folder should be
            return ""
        return path.relative_to(self.project).as_posix()
