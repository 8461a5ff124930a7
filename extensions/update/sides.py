"""The three trees to merge, prepared with what git cannot know: moves, owners, deletions, ignored files."""

import re
from dataclasses import dataclass, field

import pathspec

from .git import Refusal, Tree, renames
from .project import Project
from .rules import Move, answer_effects, declared, fill, follow, is_owned, moves_by_answers, regex
from .starts import earlier_starts
from .versions import Versions, rendered, rendered_both

KEPT = "it is yours: no version edits, removes or replaces it"
DELETED = "you deleted it"


@dataclass
class Sides:
    """The trees to merge, and notes for the report.

    Attributes:
        base: the old version with the old answers, each file at its path in the new version.
        current: the files of HEAD, also at their paths in the new version.
        template: the new version with the new answers, without what must not reach the project.
        came_from: the path of a file in the project before the update, by its path in the new version.
        moved_away: old paths of files that the template moved, as git detects it.
        made: the base, before the owner's deletions are removed from it.
        why: for a path, why the template's version does not reach the project.
        notes: further lines of the report.
        rendered: the old and the new version, as Copier renders them.
    """

    base: Tree
    current: Tree
    template: Tree
    came_from: dict[str, str]
    moved_away: set[str] = field(default_factory=set)
    made: Tree = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    rendered: tuple[Tree, Tree] = field(default_factory=lambda: ({}, {}))

    def leave_out(self, path: str, why: str) -> None:
        """Give the new version the old one's content at a path."""
        if path in self.base:
            self.template[path] = self.base[path]
        else:
            self.template.pop(path, None)
        self.why[path] = why


def prepare(project: Project, versions: Versions, exclude: tuple[str, ...] = ()) -> Sides:
    """Prepare the three trees. At paths that match `exclude` (as in .gitignore), the new version equals the old."""
    base, template = rendered_both(project, versions)
    current = {path: entry for path, entry in project.head.items() if path != project.answers_file}
    notes: list[str] = []
    start = start_again(project, versions, base, notes)

    moves = declared(versions.old_version, versions.new_version)
    by_answers = moves_by_answers(versions.old, versions.new)
    all_moves = [*by_answers, *moves]
    places = {path: follow(path, all_moves) for path in [*base, *current]}
    # A file is not moved onto another one, unless the owner has already moved it there.
    taken = {
        path
        for path, place in places.items()
        if place != path and (place in base or (place in current and path in current))
    }

    def moved(tree: Tree) -> Tree:
        return {path if path in taken else follow(path, all_moves): entry for path, entry in tree.items()}

    came_from = {path if path in taken else place: path for path, place in places.items()}
    sides = Sides(moved(base), moved(current), template, came_from, notes=notes, rendered=(dict(base), dict(template)))
    start = moved(start) if start else {}
    for path, entries in earlier_starts(project, versions, sides.current, (sides.base, start), by_answers).items():
        sides.base[path], start[path] = entries
    join(sides, start, moves)
    for path in filter(is_owned, start):
        if path in sides.current and template.get(path) != start[path]:
            sides.why[path] = KEPT
        template[path] = start[path]
    keep_by_answers(sides, versions)
    keep_folders(sides)
    sides.made = dict(sides.base)
    keep_own(project, sides)
    matches = pathspec.PathSpec.from_lines("gitwildmatch", exclude)
    for path in [path for path in {**sides.base, **template} if matches.match_file(path)]:
        if path in sides.current or path in template:
            sides.leave_out(path, "--exclude matches it")
    return sides


def start_again(project: Project, versions: Versions, base: Tree, notes: list[str]) -> Tree | None:
    """The old version with the new answers: for the owner's files, which only changed answers may change.

    None if the old version does not know an answer, such as a new kind of data: then these files are merged too.
    """
    if not versions.other_answers():
        return dict(base)
    try:
        return rendered(project, versions.old_ref, {**versions.old, **versions.new}, tasks=True)
    except Refusal:
        raise
    except Exception as error:  # Copier raises several classes
        notes.append(f"{versions.old_ref} does not accept the new answers ({error}), so your files were merged too.")
        return None


def join(sides: Sides, start: Tree, moves: list[Move]) -> None:
    """Replace several files by one, unless the owner has changed one of them."""
    for move in moves:
        joined: dict[str, list[str]] = {}
        for path in {**sides.base, **start} if len(move.sources) > 1 else ():
            if target := move.follow(path):
                joined.setdefault(target, []).append(path)
        for target, paths in joined.items():
            if all(sides.current.get(path) == sides.base.get(path) for path in paths):
                for path in paths:
                    start.pop(path, None)
            elif sides.template.pop(target, None):
                sides.notes.append(f"{target} was not created: you changed what it would replace ({', '.join(paths)}).")
                sides.why[target] = f"you changed what it would replace: {', '.join(paths)}"


def keep_by_answers(sides: Sides, versions: Versions) -> None:
    """Keep files of the owner when an answer changes, by `keeps` in moves.yml."""
    for question, effect in answer_effects().items():
        was, now = versions.old[question], versions.new[question]
        if was == now or "keeps" not in effect:
            continue
        here, there = (effect["keeps"].format_map(answers) for answers in (versions.old, versions.new))
        for path in list(sides.base):
            match = re.fullmatch(regex(here), path)
            if match and sides.template.pop(fill(there, match.groups()), None):  # else another answer removes it
                sides.template[path] = sides.base[path]
        names = sorted(found[1] for path in sides.current if (found := re.fullmatch(regex(here), path)))
        if names and "note" in effect:
            words = {**versions.new, "was": was, "now": now, "names": " ".join(names)}
            sides.notes.append(effect["note"].format_map(words))


def keep_folders(sides: Sides) -> None:
    """Keep a folder such as `loss/` that would become `loss.py`, if it holds files of the owner."""
    for path in [path for path in sides.template if path.endswith(".py") and path not in sides.base]:
        folder = path.removesuffix(".py") + "/"
        started = {p: entry for p, entry in sides.base.items() if p.startswith(folder)}
        own = [p for p in sides.current if p.startswith(folder) and p not in started]
        if started and own and not any(p.startswith(folder) for p in sides.template):
            del sides.template[path]
            sides.template |= started
            sides.notes.append(f"{folder} stays a folder because of {', '.join(own)}. Both layouts work.")


def keep_own(project: Project, sides: Sides) -> None:
    """Keep deletions of the owner, keep files that they own, and leave out paths that git ignores."""
    base, current, template = sides.base, sides.current, sides.template
    by_owner, by_template = renames(project.path, base, current), renames(project.path, base, template)
    sides.came_from |= {new: sides.came_from[old] for old, new in by_template.items()}
    sides.moved_away = set(by_template)
    for path in list(base):
        if path not in current and path not in by_owner:
            del base[path]
            # Its path in the base, in the new version, and before a move; a new file may have one of these now.
            for gone in (path, by_template.get(path, ""), sides.came_from.get(path, "")):
                if gone not in current and gone in template:
                    del template[gone]
                    sides.why[gone] = DELETED
        elif is_owned(path) and path not in template and path not in by_template and current.get(path) != base[path]:
            template[path] = base[path]
            sides.why[path] = KEPT
    for path in [path for path in template if path not in base]:
        if path in current and is_owned(path):
            del template[path]
            sides.why[path] = KEPT
        elif path not in current and (place := project.obstacle(path)) and project.ignores(place):
            del template[path]
            sides.why[path] = f"{place} exists and is ignored by git"
            sides.notes.append(f"{path} was left out: {sides.why[path]}.")
