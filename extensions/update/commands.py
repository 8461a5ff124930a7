"""The command line: an update without Copier's own changes, preview, undo, explain, migrate.

python extensions/update [PROJECT] [--to VERSION | --step] [--preview]
python extensions/update [PROJECT] --migrate [--preview]
python extensions/update [PROJECT] --explain FILE
python extensions/update [PROJECT] --undo
"""

import argparse
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from . import snapshot, stages
from .copies import copy
from .git import Refusal, attempt, git
from .migrations import migrate
from .plan import Plan, compute
from .project import Project, check, read_answers
from .report import explain, preview, report
from .undo import undo
from .versions import (
    TEMPLATE,
    Versions,
    as_version,
    changelog_sections,
    computed,
    conditional_questions,
    copy_external_data,
    describe,
    record,
    releases,
    rendered,
    settings,
    template_paths,
    unpack,
    with_hidden_answers,
)

# --- version and answers ---


def target_version(project: Project, recorded: dict[str, Any], to: str | None, step: bool) -> str:
    """The version to update to: the newest release, a given one, or the next."""
    here, offered = as_version(recorded["_commit"]), releases()
    if to:
        if attempt("rev-parse", "--verify", "--quiet", f"{to}^{{commit}}", cwd=TEMPLATE).status:
            raise Refusal(f"--to {to}: unknown version; the template has {', '.join(offered.values())}")
        if as_version(to) < here:
            raise Refusal(f"--to {to}: older than the project's {recorded['_commit']}; to go back, use `git revert`")
        return to
    newer = [tag for version, tag in offered.items() if version > here]
    return newer[0 if step else -1] if newer else str(recorded["_commit"])


def ask(project: Project, ref: str, recorded: dict[str, Any], given: dict[str, Any], defaults: bool) -> str:
    """Let Copier ask the questions of a version, with the recorded answers as defaults. Returns the new answers file.

    The recorded answers are written as those of an earlier copy, so that Copier drops one that is no longer valid.
    """
    answers = {key: value for key, value in recorded.items() if not key.startswith("_")}
    with tempfile.TemporaryDirectory() as folder:
        source, root, name = unpack(ref, Path(folder)), Path(folder, "project"), project.answers_file
        copy_external_data(project, ref, answers, root)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(yaml.safe_dump(answers), encoding="utf-8")
        only = ["*", *(f"!/{path.as_posix()}" for path in (Path(name), *Path(name).parents) if path.name)]
        options: dict[str, Any] = {"data": given, "overwrite": True, "defaults": defaults, "exclude": only}
        try:
            copy(source, root, answers_file=name, skip_tasks=True, **options)
        except KeyboardInterrupt:
            raise
        except Exception as error:  # Copier raises several classes
            raise Refusal(str(error)) from error
        return record((root / name).read_text(encoding="utf-8"), describe(ref), recorded["_src_path"])


def parse_answers(texts: list[str], ref: str) -> dict[str, Any]:
    """The answers of the command line; for a multiple-choice question, `a,b` means `[a, b]`."""
    config = settings(ref)
    questions = {key: about for key, about in config.items() if key[0] != "_" and key not in computed(config)}
    found: dict[str, Any] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or key not in questions:
            raise Refusal(f"--data {text}: write KEY=VALUE, where KEY is one of {', '.join(questions)}")
        several = isinstance(questions[key], dict) and questions[key].get("multiselect")
        words = [word.strip() for word in value.strip("[] ").split(",")]
        found[key] = [word for word in words if word] if several else value
    return found


# --- commands ---


def plan_for(project: Project, recorded: dict[str, Any], ref: str, text: str) -> Plan:
    """The plan of an update to a version with a new answers file."""
    old = str(recorded["_commit"])
    given = project.answers(), read_answers(text)
    both = Versions(old, ref, as_version(old), as_version(ref), *map(with_hidden_answers, (old, ref), given))
    return compute(project, both, text.encode())


def update(project: Project, options: argparse.Namespace) -> int:
    """Update or preview an update; returns 1 if there are conflicts."""
    recorded = read_recorded(project)
    ref = target_version(project, recorded, options.to, options.step)
    old, answers = str(recorded["_commit"]), project.answers()
    check(project, template_paths(old, answers) | template_paths(ref, answers), conditional_questions(ref))
    if changed := project.changed():
        raise Refusal(f"{changed[0]} is not committed: commit it, or git stash")
    given = parse_answers(options.data, ref)
    if ref == old and not given:
        print(f"up to date with the template: {old}")
        return 0
    defaults = options.defaults or options.preview
    if not defaults and not sys.stdin.isatty():
        raise Refusal("there is no terminal to ask questions in: add --defaults")
    for section in [*snapshot.interrupted(project), *changelog_sections(as_version(old), as_version(ref))]:
        print(section, end="\n\n", flush=True)
    text = ask(project, ref, recorded, given, defaults)
    plan = plan_for(project, recorded, ref, text)
    if options.preview:
        print(preview(project, plan))
        return 0
    taken = snapshot.take(project, (), (old, ref))
    try:
        changed = stages.write_plan(project, taken, plan)
    except BaseException:
        stages.roll_back(project, taken)
        raise
    taken.finish(project)
    print(report(project, plan, changed))
    return stages.status(project, plan)


def read_recorded(project: Project, revision: str = "HEAD") -> dict[str, Any]:
    """The answers file with Copier's keys: template, version, answers. Revision `""` is the index."""
    try:
        text = git("show", f"{revision}:./{project.answers_file}", cwd=project.path)
        recorded: dict[str, Any] = yaml.safe_load(text)
        recorded["_commit"], recorded["_src_path"]
    except (KeyError, TypeError, yaml.YAMLError):
        raise Refusal(f"{project.answers_file}: _commit or _src_path is missing; restore the line and commit") from None
    if attempt("rev-parse", "--verify", "--quiet", f"{recorded['_commit']}^{{commit}}", cwd=TEMPLATE).status:
        raise Refusal(f"{project.answers_file}: the template has no version {recorded['_commit']}; fetch its tags")
    return recorded


def explain_file(project: Project, options: argparse.Namespace) -> int:
    """Print who owns a file, why, which version changed it last, and what an update would do."""
    recorded = read_recorded(project)
    ref = target_version(project, recorded, options.to, options.step)
    path = (Path.cwd() / options.explain).resolve()
    if not path.is_relative_to(project.path.resolve()):
        raise Refusal(f"--explain {options.explain}: not in {project.path}; name a file of the project")
    name = path.relative_to(project.path.resolve()).as_posix()
    plan = plan_for(project, recorded, ref, ask(project, ref, recorded, {}, defaults=True))
    print(explain(project, plan, name, last_change(project, recorded, name)))
    return 0


def last_change(project: Project, recorded: dict[str, Any], path: str) -> str:
    """The newest release, up to the project's, that changed a file."""
    here = as_version(recorded["_commit"])
    known = [tag for version, tag in releases().items() if version <= here]
    later = rendered(project, recorded["_commit"], project.answers()).get(path)
    if later is None:
        return ""
    for tag, next_tag in zip(reversed(known), [*reversed(known[1:]), None], strict=False):
        try:
            if rendered(project, tag, project.answers()).get(path) != later:
                return next_tag or tag
        except Exception:  # Copier refused an answer that the version does not know
            return next_tag or tag
    return known[0] if known else ""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # paths may be undecodable, a terminal may lack an arrow
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["copier"]:  # the migration of copier.yml
            return stages.run(words[1], words[2], tuple(json.loads(words[3])), words[4:] != ["true"])
        return command(words)
    except Refusal as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; nothing has changed.", file=sys.stderr)
        return 130


def command(words: list[str]) -> int:
    """Parse the options and run the command."""
    parser = argparse.ArgumentParser(prog="update", description="Update a project to a newer version of its template.")
    parser.add_argument(
        "project", nargs="?", default=".", metavar="PROJECT", help="its folder (default: the current one)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--migrate", action="store_true", help="apply changes to your own files that a report offered")
    what.add_argument("--undo", action="store_true", help="restore the project to its state before the last update")
    what.add_argument("--explain", metavar="FILE", help="show who owns a file and what an update would do to it")
    parser.add_argument("--preview", action="store_true", help="show what would change; ask and write nothing")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--to", metavar="VERSION", help="update to this version (default: the newest release)")
    which.add_argument("--step", action="store_true", help="update to the next release only")
    parser.add_argument("--defaults", action="store_true", help="ask nothing: new questions get their defaults")
    parser.add_argument("-d", "--data", metavar="KEY=VALUE", action="append", default=[], help="an answer; repeatable")
    parser.add_argument("-a", "--answers-file", metavar="FILE", help="the answers file, if it has another name")
    options = parser.parse_args(words)
    if options.preview and (options.undo or options.explain):
        parser.error("--preview: not with --undo or --explain; leave one out")
    name = options.answers_file or settings("HEAD").get("_answers_file", ".copier-answers.yml")
    project = Project(Path(options.project).resolve(), name)
    if options.migrate:
        recorded = read_recorded(project, "")
        print(migrate(project, str(recorded["_commit"]), project.answers(""), options.preview))
        return 0
    if options.undo:
        print(undo(project))
        return 0
    if options.explain:
        return explain_file(project, options)
    return update(project, options)
