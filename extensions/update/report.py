"""The plan in words: the report of an update, the preview, the explanation of a file."""

import shlex

from .git import Entry, git, write_tree
from .plan import File, Plan
from .project import Project
from .rules import reason
from .snapshot import way_back

ADVICE = {
    "contents": "both changed the same lines: edit it, remove the conflict markers, then git add {path}",
    "add/add": "both added a file of this name: edit it, remove the conflict markers, then git add {path}",
    "binary": "both replaced it; yours is in place. To take theirs: git show :3:./{path} > {path}; then git add {path}",
    "rename/rename": "you and the template moved it to different places: git add the one to keep, git rm the others",
    "rename/delete": "one moved it, the other removed it: git add {path} to keep it, or git rm {path}",
    "distinct modes": "one has a file, the other a link: git add one, git rm the other (the name after ~: whose it is)",
    "modify/delete": "you changed it, the template removed it: git add {path} to keep it, or git rm {path}",
}
NOTES = {"merged": ": your changes and the template's", "kept as yours": "; new projects start with newer ones"}
SHOWN = 12  # files of one outcome


def summary(plan: Plan) -> list[str]:
    """The versions, then the files by outcome."""
    versions = plan.versions
    lines = [
        f"Template {versions.old_ref} → {versions.new_ref}" + (", changed answers" if versions.other_answers() else "")
    ]
    for outcome in ("updated", "merged", "moved", "added", "removed", "kept as yours"):
        files = plan.of(outcome)
        if files:
            lines.append(f"{len(files):5} {outcome}{NOTES.get(outcome, '')}")
            lines += [f"        {label(file)}" for file in files[:SHOWN]]
            lines += [f"        and {len(files) - SHOWN} more"] if len(files) > SHOWN else []
    lines += [line for note in plan.notes for line in ("", *note.split("\n"))]
    for version, paths in plan.offers.paths.items():
        lines += ["", f"{version} can change these files of yours, which only --migrate does:"]
        lines += [f"        {path}" for path in paths]
    for version, words in plan.offers.words.items():
        lines += ["", f"{version}, what you can do by hand:", *(f"    {line}" for line in words.split("\n"))]
    conflicts = plan.of("in conflict")
    lines += ["", f"{len(conflicts)} in conflict:"] if conflicts else []
    for file in conflicts:
        advice = ADVICE.get(file.conflict, "{kind}; see git status, then git add or git rm {path}")
        lines += [f"  {file.path}", f"      {advice.format(path=shlex.quote(file.path), kind=file.conflict)}"]
    return lines


def label(file: File) -> str:
    return f"{file.was} → {file.path}" if file.outcome == "moved" else file.path


def report(project: Project, plan: Plan, changed: list[str]) -> str:
    """What an update did, what is left to do, and how to undo it."""
    if changed:
        plan.notes.append(f"Changed during the update and left as is: {', '.join(changed)}")
    lines = summary(plan)
    if plan.stages:
        lines += ["", "Next: resolve the conflicts, run your tests, git commit"]
    elif len(lines) > 1:
        lines += ["", "Next: check git diff --cached, run your tests, git commit"]
    elif plan.versions.old_ref != plan.versions.new_ref:
        lines += ["", f"Only {project.answers_file} changes: it records the new version. Next: git commit"]
    else:
        lines += ["", "nothing to do"]
    return "\n".join([*lines, f"To undo: {way_back(bool(plan.stages), *changed)}"])


def preview(project: Project, plan: Plan) -> str:
    """What an update would do, and its diff."""
    trees = write_tree(project.path, project.head), write_tree(project.path, plan.tree)
    diff = git("diff-tree", "-r", "-p", "-M", *trees, cwd=project.path)
    return "\n".join([*summary(plan), "", diff, "This is a preview: nothing was written."])


def explain(project: Project, plan: Plan, path: str, last_change: str) -> str:
    """Who owns a file, why, which version changed it last, and what an update would do.

    Args:
        path: its path now, or in the new version.
        last_change: the version that changed it last, or "".
    """
    file = next((file for file in plan.files.values() if path in (file.was, file.path)), None)
    if file is None:
        return f"{path}: neither the project nor the template has it"
    if file.base is None and file.template is None:
        return f"{path}: yours; the template has no such file"
    owner = "yours: written once, never edited" if file.owned else "the template's: merged with your changes"
    versions, why = plan.versions, reason(file.path)
    lines = [path, f"  owner        {owner}" + (f" ({why})" if why else "")]
    lines.append(f"  now          {compared(file.base, file.current, versions.old_ref)}")
    lines += [f"  last changed {last_change}"] if last_change else []
    same = versions.old_ref == versions.new_ref
    lines.append(f"  {'update' if same else 'to ' + versions.new_ref:12} {file.outcome}: {file.why}")
    lines += [f"               {label(file)}"] if file.outcome == "moved" else []
    return "\n".join(lines)


def compared(base: Entry | None, current: Entry | None, version: str) -> str:
    """The project's file compared with the project's version of the template."""
    if base is None:
        return f"yours alone: {version} does not have it" if current else "does not exist"
    if current is None:
        return "deleted by you"
    return f"as in {version}" if current == base else f"changed by you since {version}"
