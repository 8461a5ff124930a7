"""From which version an owner's file started: a version does not edit it, so it may be of one long before the last.

Changed answers reach such files as the difference that they make to their start. Taken from a later version than the
file's, this difference is in conflict with lines that the owner never wrote.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from .git import Entry, Tree, read_blob
from .project import Project
from .rules import Move, declared, follow
from .versions import Versions, releases, rendered


def earlier_starts(
    project: Project, versions: Versions, yours: Tree, base: Tree, paths: list[str], by_answers: list[Move]
) -> dict[str, tuple[Entry, Entry]]:
    """The start that each of the paths is most like, with the old answers and the new, if not that of the old version.

    Paths, and the keys of the trees, are those of the new version.
    """
    best = {path: likeness(project, yours[path], base[path]) for path in paths}
    found: dict[str, tuple[Entry, Entry]] = {}
    for version, ref in reversed(releases().items()):
        if version >= versions.old_version or min(best.values(), default=1) == 1:
            continue
        moves = [*by_answers, *declared(version, versions.new_version)]
        old, new = (
            {follow(path, moves): entry for path, entry in render(project, ref, answers).items()}
            for answers in (versions.old, {**versions.old, **versions.new})
        )
        for path in paths:
            if path in old and path in new:
                ratio = likeness(project, yours[path], old[path])
                if ratio > best[path]:
                    best[path], found[path] = ratio, (old[path], new[path])
    return found


def render(project: Project, ref: str, answers: Mapping[str, Any]) -> Tree:
    """A version with these answers; nothing if it does not take them."""
    try:
        return rendered(project, ref, answers)
    except Exception:  # Copier's, for an answer: of several classes
        return {}


def likeness(project: Project, one: Entry, other: Entry) -> float:
    """How many lines two files share: 1 if all."""
    if one == other:
        return 1
    here, there = (read_blob(project.path, entry[1]).splitlines() for entry in (one, other))
    return min(difflib.SequenceMatcher(None, here, there, autojunk=False).ratio(), 0.999)
