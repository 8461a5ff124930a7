"""The version that a file of the owner started from. No update edits such a file, so it may be an old version.

A changed answer reaches such a file as a diff: the version that it started from, with the old and with the new answers.
A diff of a later version would conflict with lines that the owner never wrote.
"""

import difflib
from collections.abc import Mapping
from typing import Any

from .git import Entry, Tree, read_blobs
from .project import Project
from .rules import Move, declared, follow, is_owned
from .versions import Versions, releases, rendered


def earlier_starts(
    project: Project, versions: Versions, current: Tree, trees: tuple[Tree, Tree], by_answers: list[Move]
) -> dict[str, tuple[Entry, Entry]]:
    """For a file of the owner, the most similar earlier version of it, rendered with the old and the new answers.

    Only files that are more similar to an earlier version than to the old one are returned.

    Args:
        current: the project's files.
        trees: the old version with the old answers, and with the new ones.
        by_answers: the moves that follow from the answers.

    Paths are those of the new version.
    """
    base, start = trees
    files = {path for path, (mode, _) in current.items() if mode.startswith("100")}  # no link or submodule in its place
    behind = [path for path in start if is_owned(path) and path in files and path in base]
    behind = [path for path in behind if base[path] != start[path] and current[path] not in (base[path], start[path])]
    best = similarities(project, {path: (current[path], base[path], start[path]) for path in behind})
    found: dict[str, tuple[Entry, Entry]] = {}
    for version, ref in reversed(releases().items()) if behind else ():
        if version >= versions.old_version:
            continue
        moves = [*by_answers, *declared(version, versions.new_version)]
        old, new = (
            {follow(path, moves): entry for path, entry in render(project, ref, answers).items()}
            for answers in (versions.old, {**versions.old, **versions.new})
        )
        there = {path: (current[path], old[path], new[path]) for path in behind if path in old and path in new}
        for path, ratio in similarities(project, there).items():
            if ratio > best[path]:
                best[path], found[path] = ratio, (old[path], new[path])
    return found


def render(project: Project, ref: str, answers: Mapping[str, Any]) -> Tree:
    """A version with these answers; empty if it does not accept them."""
    try:
        return rendered(project, ref, answers)
    except Exception:  # Copier raises several classes
        return {}


def similarities(project: Project, files: Mapping[str, tuple[Entry, ...]]) -> dict[str, float]:
    """The similarity of each file, the first entry, to the most similar start: 1 if all lines are equal."""
    blobs = read_blobs(project.path, (oid for entries in files.values() for _, oid in entries))
    texts = {path: [blobs[oid].splitlines() for _, oid in entries] for path, entries in files.items()}
    return {path: max(similarity(own, start) for start in starts) for path, (own, *starts) in texts.items()}


def similarity(own: list[bytes], start: list[bytes]) -> float:
    return difflib.SequenceMatcher(None, own, start, autojunk=False).ratio()
