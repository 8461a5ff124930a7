"""The answers, and the rendered template as a commit without parents."""

import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from update import versions
from update.git import AUTHOR, Refusal, git

from .guesses import Guess
from .project import ANSWERS, Candidate
from .template import Release, copy


def accepted_guesses(
    files: Path, questions: list[str], data: dict[str, Any], guesses: dict[str, Guess]
) -> dict[str, str]:
    """The guesses that pass the template's validators. Each answer is printed with its source."""
    left = {key: guesses.get(key, (None, "")) for key in questions if key not in data}
    while True:
        answers = {key: value for key, (value, _) in left.items() if value is not None}
        try:
            with tempfile.TemporaryDirectory() as folder:
                only = ["*", f"!/{ANSWERS}"]
                copy(files, Path(folder), data=data, user_defaults=answers, defaults=True, exclude=only)
                taken = yaml.safe_load(Path(folder, ANSWERS).read_text(encoding="utf-8"))
            break
        except Refusal as error:
            refused = re.search(r"'(\w+)': (.*)", str(error))
            if not refused or refused[1] not in answers:
                raise
            value, where = left[refused[1]]
            left[refused[1]] = None, f"{where} is {value!r}, but {refused[2]}"
    for key in questions:
        value, where = (data[key], "given") if key in data else left[key]
        if value is None:
            value, where = taken.get(key, "-"), "; ".join(filter(None, ["the template's default", where]))
        print(f"  {key}: {value} ({where})")
    return answers


def record(answers: Path, source: str, version: Release) -> dict[str, str]:
    """Write the source of updates into the answers file and return the answers."""
    name = version.name if version.is_tag else versions.describe(version.commit)
    text = versions.record(answers.read_text(encoding="utf-8"), name, source)
    answers.write_text(text, encoding="utf-8")
    recorded: dict[str, str] = yaml.safe_load(text)
    return recorded


def commit_render(project: Candidate, files: dict[str, Path], message: str, index: Path) -> str:
    """A commit without parents that holds the rendered files by path, as the project's own attributes store them."""
    entries, where = "", {"GIT_INDEX_FILE": str(index)}
    for path, file in files.items():
        blob = git("hash-object", "-w", f"--path={path}", "--", str(file), cwd=project.top).strip()
        entries += f"{'100755' if file.stat().st_mode & 0o100 else '100644'} {blob}\t{path}\0"
    git("update-index", "-z", "--index-info", cwd=project.top, given=entries, env=where)
    tree = git("write-tree", cwd=project.top, env=where).strip()
    return git("commit-tree", "-m", message, tree, cwd=project.top, env=AUTHOR).strip()
