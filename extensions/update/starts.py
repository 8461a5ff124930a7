"""From which version an owner's file started: a version does not edit it, so it may be of one long before the last.

Changed answers reach such files as the difference that they make to their start. Taken from a later version than the
file's, this difference is in conflict with lines that the owner never wrote.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from .git import Entry, Tree, read_blob
from .project import Project
from .rules import Move, declared, follow, is_yours
from .versions import Versions, releases, rendered


def earlier_starts(
    project: Project, versions: Versions, yours: Tree, trees: tuple[Tree, Tree], by_answers: list[Move]
) -> dict[str, tuple[Entry, Entry]]:
    """The start that an owner's file is most like, with the old answers and the new, if not that of the old version.

    Args:
        yours: the project's files.
        trees: those of the old version, with the old answers and the new.
        by_answers: moves that follow from the answers.

    Paths are those of the new version.
    """
    base, start = trees
    behind = [path for path in start if is_yours(path) and None not in (yours.get(path), base.get(path))]
    behind = [path for path in behind if base[path] != start[path] and yours[path] not in (base[path], start[path])]
    best = {path: likeness(project, yours[path], base[path], start[path]) for path in behind}
    found: dict[str, tuple[Entry, Entry]] = {}
    for version, ref in reversed(releases().items()) if behind else ():
        if version >= versions.old_version:
            continue
        moves = [*by_answers, *declared(version, versions.new_version)]
        old, new = (
            {follow(path, moves): entry for path, entry in render(project, ref, answers).items()}
            for answers in (versions.old, {**versions.old, **versions.new})
        )
        for path in behind:
            if path in old and path in new:
                ratio = likeness(project, yours[path], old[path], new[path])
                if ratio > best[path]:
                    best[path], found[path] = ratio, (old[path], new[path])
    return found


def render(project: Project, ref: str, answers: Mapping[str, Any]) -> Tree:
    """A version with these answers; nothing if it does not take them."""
    try:
        return rendered(project, ref, answers)
    except Exception:  # Copier's, for an answer: of several classes
        return {}


def likeness(project: Project, mine: Entry, *starts: Entry) -> float:
    """How many lines a file shares with the start that it shares most with: 1 if all."""
    own = read_blob(project.path, mine[1]).splitlines()
    texts = (read_blob(project.path, start[1]).splitlines() for start in starts)
    return max(difflib.SequenceMatcher(None, own, text, autojunk=False).ratio() for text in texts)
