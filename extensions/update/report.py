"""An update in words: the report at its end, the preview, and the explanation of one file."""

import shlex

from .git import Entry, git, write_tree
from .plan import File, Plan
from .project import Project
from .rules import reason
from .snapshot import way_back

ADVICE = {
    "contents": "both changed the same lines: keep what you want, delete the marks, git add {path}",
    "add/add": "both have a file of this name: keep what you want, delete the marks, git add {path}",
    "binary": "both replaced it, and yours is in place; theirs: git show :3:./{path} > {path}; then git add {path}",
    "rename/rename": "you and the template moved it to two places: git add the one that you keep, git rm the others",
    "rename/delete": "one moved it, the other removed it: git add {path} keeps it, git rm {path} does not",
    "distinct modes": "a file for one, a link for the other: git add what you keep, git rm the other (~: whose it is)",
    "modify/delete": "you changed it, the template removed it: git add {path} keeps it, git rm {path} does not",
}
SAYS = {"merged": ", your changes and the template's", "kept as yours": ", though a new project starts with others"}
SHOWN = 12


def head(plan: Plan) -> list[str]:
    """The versions, and the files by what happens to them."""
    versions = plan.versions
    lines = [f"{versions.old_ref} → {versions.new_ref}" + (", other answers" if versions.other_answers() else "")]
    for outcome in ("updated", "merged", "moved", "added", "removed", "kept as yours"):
        files = plan.of(outcome)
        if files:
            lines.append(f"{len(files):5} {outcome}{SAYS.get(outcome, '')}")
            lines += [f"        {moved(file)}" for file in files[:SHOWN]]
            lines += [f"        and {len(files) - SHOWN} more"] if len(files) > SHOWN else []
    lines += [line for note in plan.notes for line in ("", *note.split("\n"))]
    for version, paths in plan.offers.paths.items():
        lines += ["", f"{version} can change files of yours, which this update leaves. With --migrate, it does:"]
        lines += [f"        {path}" for path in paths]
    for version, words in plan.offers.words.items():
        lines += ["", f"{version}, what is left to you:", *(f"    {line}" for line in words.split("\n"))]
    conflicts = plan.of("in conflict")
    lines += ["", f"{len(conflicts)} in conflict:"] if conflicts else []
    for file in conflicts:
        advice = ADVICE.get(file.conflict, "{kind}; see git status, then git add or git rm {path}")
        lines += [f"  {file.path}", f"      {advice.format(path=shlex.quote(file.path), kind=file.conflict)}"]
    return lines


def moved(file: File) -> str:
    return f"{file.was} → {file.path}" if file.outcome == "moved" else file.path


def report(project: Project, plan: Plan, changed: list[str]) -> str:
    """What was done, to be read at a glance; what is left to do, and the way back."""
    if changed:
        plan.notes.append(f"Changed while this ran, and left as it is: {', '.join(changed)}")
    lines = head(plan)
    if plan.stages:
        lines += ["", "Then: git status, run your tests, git commit"]
    elif len(lines) > 1:
        lines += ["", "Next: git diff --cached, run your tests, git commit"]
    elif plan.versions.old_ref != plan.versions.new_ref:
        lines += ["", f"No file of yours changes; {project.answers_file} records the new version: git commit"]
    else:
        lines += ["", "nothing to do"]
    return "\n".join([*lines, f"Go back: {way_back(bool(plan.stages), *changed)}"])


def preview(project: Project, plan: Plan) -> str:
    """What an update would do, and the difference that it would make."""
    trees = write_tree(project.path, project.head), write_tree(project.path, plan.tree)
    diff = git("diff-tree", "-r", "-p", "-M", *trees, cwd=project.path)
    return "\n".join([*head(plan), "", diff, "Nothing is written: this is a preview."])


def explain(project: Project, plan: Plan, path: str, last_change: str) -> str:
    """Why a file is there, whose it is, which version changed it last, and what an update would do.

    Args:
        path: where it is now, or where the new version has it.
        last_change: the version that changed it last, or "".
    """
    file = next((file for file in plan.files.values() if path in (file.was, file.path)), None)
    if file is None:
        return f"{path}: neither the project nor the template has it"
    if file.base is None and file.template is None:
        return f"{path}: yours; the template has no such file"
    owner = "yours, written once as a start" if file.yours else "the template's, merged with what you change"
    versions, why = plan.versions, reason(file.path)
    lines = [path, f"  owner        {owner}" + (f" ({why})" if why else "")]
    lines.append(f"  now          {now(file.base, file.mine, versions.old_ref)}")
    lines += [f"  last changed {last_change}"] if last_change else []
    same = versions.old_ref == versions.new_ref
    lines.append(f"  {'update' if same else 'to ' + versions.new_ref:12} {file.outcome}: {file.why}")
    lines += [f"               {moved(file)}"] if file.outcome == "moved" else []
    return "\n".join(lines)


def now(base: Entry | None, mine: Entry | None, version: str) -> str:
    """How the project's file is to that of the version that the project has."""
    if base is None:
        return f"yours alone: {version} does not have it" if mine else "not there"
    if mine is None:
        return "deleted by you"
    return f"as in {version}" if mine == base else f"changed by you since {version}"
