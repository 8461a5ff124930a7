"""An update by `copier update`: the two stages of the migration in copier.yml, before and after Copier's own changes.

Copier alone drops edits that it cannot follow, such as those in a file that the template moves. So the second stage
undoes the changes that Copier made after its questions, and writes the merge instead. Everything is computed from
commits before a file is touched: after a failure or a kill, HEAD is unchanged and the rest can be restored.
"""

import glob
import os
import shlex
import sys
from pathlib import Path

from packaging.version import Version

from . import snapshot
from .git import Refusal, attempt, git, write_tree
from .plan import Plan, compute
from .project import Project, check, check_places, read_answers
from .report import report
from .snapshot import Snapshot, way_back
from .undo import revert_writes
from .versions import Versions, changelog_sections, conditional_questions, template_paths, with_hidden_answers

BOTS = "UPDATE_BY_BOT"  # if 1: new files stay unstaged, and conflicts exit with 0


def before(project: Project, refs: tuple[str, str], versions: tuple[Version, Version]) -> int:
    """Refuse what would fail later, save what Copier could overwrite, print the CHANGELOG and the undo command."""
    patterns = template_paths(refs[0]) | template_paths("HEAD")
    answers = project.answers() if project.answers_file in project.head else {}
    check(project, template_paths(refs[0], answers) | template_paths("HEAD", answers), conditional_questions("HEAD"))
    for where in snapshot.interrupted(project):
        print(where)
    taken = snapshot.take(project, patterns, refs)
    back = f"cd {shlex.quote(str(project.path))} && {way_back(conflicts=True)} && git clean --force -d --quiet ."
    if taken.ignored.exists():
        back += f" && cp -a {shlex.quote(str(taken.ignored))}/. ."
    print(
        *changelog_sections(*versions),
        f"If the update is interrupted, undo it with\n    {back}\n",
        sep="\n\n",
        flush=True,
    )
    return 0


def after(
    project: Project, refs: tuple[str, str], versions: tuple[Version, Version], exclude: tuple[str, ...], conflict: str
) -> int:
    """Replace Copier's writes by the merge; returns 1 if there are conflicts."""
    answers = (project.path / project.answers_file).read_bytes()
    begun = [taken for taken in snapshot.snapshots(project) if not taken.state["ended"]]
    taken = begun[-1] if begun else snapshot.take(project, template_paths(refs[0]) | template_paths("HEAD"), refs)
    copier_undone = False
    try:
        snapshot.undo_copier(project, taken)
        copier_undone = True
        project.task_files = project.changed()
        given = project.answers(), read_answers(answers.decode())
        both = Versions(*refs, *versions, *map(with_hidden_answers, refs, given))
        plan = compute(project, both, answers, exclude)
        of_template = {path for path, file in plan.files.items() if file.base or file.template}
        snapshot.set_aside(project, taken, of_template.intersection(project.task_files))
        if conflict == "rej":
            plan.notes.append("--conflict=rej has no effect: conflicts are in git's index and marked in the files.")
        snapshot.restore_saved(project, taken, plan.rendered)
        changed = write_plan(project, taken, plan)
    except BaseException:
        try:
            if not copier_undone:
                snapshot.undo_copier(project, taken)
            roll_back(project, taken)
        except (OSError, Refusal) as error:
            print(f"Undoing the update failed ({error}): run the command printed above.", file=sys.stderr)
        raise
    taken.finish(project)
    print(report(project, plan, changed))
    code = status(project, plan)
    if code:
        print("(The exit status 1 that Copier reports below means these conflicts. The update is complete.)")
    return code


def roll_back(project: Project, taken: Snapshot) -> None:
    """Undo a failed update; print what the owner saved meanwhile, and where half-written files are."""
    saved = revert_writes(project, taken, keep=True)
    print("The project was restored to its state before the update.", file=sys.stderr)
    for path in saved:
        print(f"{path} was saved meanwhile and stays as you saved it.", file=sys.stderr)
    if taken.replaced.exists():
        print(f"Files that the update left half-written are in {taken.replaced}", file=sys.stderr)
    else:
        taken.delete()


def write_plan(project: Project, taken: Snapshot, plan: Plan) -> list[str]:
    """Write the plan to index and work tree where it differs from HEAD. Returns other paths that changed meanwhile."""
    before = project.head
    whole = project.outside_files() | {project.prefix + path: entry for path, entry in plan.tree.items()}
    trees = taken.state["head"], write_tree(project.path, whole)
    changed = project.changed()
    try:
        project.write(*trees, "--dry-run")
    except Refusal:
        touched = {path for path in {**before, **plan.tree} if before.get(path) != plan.tree.get(path)}
        if lost := sorted(touched & set(project.changed())):
            raise Refusal(f"{lost[0]} was changed during the update: commit it, then update again") from None
        raise
    new = [path for path in plan.tree if path not in before]
    check_places(project, set(map(glob.escape, new)))  # a new answer may have renamed a folder
    for path in new:
        if place := project.obstacle(path):
            raise Refusal(f"{place} blocks {path} and is ignored by git: move it, then update again")
    taken.record_writes(project, plan.tree, {path for _, _, path in plan.stages})
    project.write(*trees)
    unmerged = {path: f"0 {'0' * 40}\t{project.prefix}{path}\0" for _, _, path in plan.stages}
    entries = [f"{mode} {oid} {stage}\t{project.prefix}{path}\0" for (mode, oid), stage, path in plan.stages]
    given = "".join([*unmerged.values(), *entries])
    git("update-index", "-z", "--index-info", cwd=project.top, given=given)
    return changed


def status(project: Project, plan: Plan) -> int:
    """The exit status: 1 if there are conflicts. For a bot, 0 and new files unstaged: see docs/updating.md."""
    if os.environ.get(BOTS) != "1":
        return 1 if plan.stages else 0
    in_conflict = {path for _, _, path in plan.stages}
    new = [path for path in plan.tree if path not in project.head and path not in in_conflict]
    if given := "".join(f"{path}\0" for path in new):
        chosen = ["--pathspec-from-file=-", "--pathspec-file-nul"]
        git("--literal-pathspecs", "reset", "--quiet", *chosen, cwd=project.path, given=given)
    return 0


def run(answers_file: str, conflict: str, exclude: tuple[str, ...], tasks: bool) -> int:
    """Run one stage for the project in the current folder; Copier passes stage and versions in the environment."""
    env = os.environ
    refs = env["VERSION_FROM"], env["VERSION_TO"]
    versions = Version(env["VERSION_PEP440_FROM"]), Version(env["VERSION_PEP440_TO"])
    if env["STAGE"] == "before" and attempt("rev-parse", "--show-toplevel", cwd=Path.cwd()).status:
        return 0  # Copier's pull request 2376 runs this stage in a render of the old version
    project = Project(Path.cwd(), answers_file, tasks)
    if env["STAGE"] == "before":
        return before(project, refs, versions)
    return after(project, refs, versions, exclude, conflict)
