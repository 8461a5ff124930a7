# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.18.2"]
# ///
"""Let a project that was not made from this template join it, so that `copier update` works on it from then on.

The template is rendered with answers guessed from the project, and merged on a new branch as a history of its own: a
file that both have becomes a conflict that holds both versions. Nothing else of the owner's changes, nor their branch.
"""

import argparse
import ast
import configparser
import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias

from update.git import AUTHOR, Refusal, attempt, check_git, git

ANSWERS = ".copier-answers.yml"
LICENSES = {  # what their texts say, in lower case and single spaces
    "MIT": "permission is hereby granted, free of charge, .* this permission notice shall be included",
    "Apache-2.0": "^apache license version 2.0",
    "BSD-3-Clause": "redistribution and use in source and binary forms, (?!.* advertising material).* neither the ",
    "GPL-3.0-or-later": "^gnu general public license version 3(?!.* gnu lesser general public license version 3)",
}
KINDS = {  # what a project of a kind of data imports, or names its files by
    "object_detection": "pycocotools|faster_coco_eval|ultralytics|detectron2|mmdet|effdet|yolo|faster_?rcnn|ssd300",
    "image_segmentation": "segmentation_models_pytorch|mmseg|unet|deeplab|segment",
    "audio_classification": "torchaudio|librosa|soundfile|speechbrain|audio|mel_?spectrogram",
    "language_modeling": "tiktoken|sentencepiece|tokenizers|gpt|llama|language_model|char_?rnn",
    "text_classification": "torchtext|spacy|nltk|bert|sentiment",
    "time_series": "darts|gluonts|neuralforecast|forecast|time_?series",
    "tabular": "xgboost|lightgbm|catboost|pytorch_tabular|tabnet|tabular",
    "image_classification": "torchvision|timm|cv2|resnet|mnist|cifar|imagenet",
}
HELP = """\
It guesses answers from the project and asks the template's questions with them, renders the template, makes a new
branch, and merges the render there. Your own branch stays as it is, and how to go back to it is printed.

exit status:
  0  merged
  1  merged, but for conflicts or for the commit: what is left to do is printed
  2  nothing has changed: why is printed
"""

Guess: TypeAlias = tuple[str | None, str]  # an answer and where it comes from; or None, and why there is none
Metadata: TypeAlias = list[tuple[str, dict[str, Any]]]  # what each file about the package says, named as setup() does


# --- the template ---


@dataclass(frozen=True)
class Release:
    """A version of the template: its clone, the version's name and commit, and whether the name is a tag."""

    clone: Path
    name: str
    commit: str
    is_tag: bool


def find_version(clone: Path, name: str | None) -> Release:
    """A version, by default the newest release. Refusal if there is none."""
    status, top, _ = attempt("rev-parse", "--show-toplevel", cwd=clone)
    if status or Path(top.removesuffix("\n")).resolve() != clone:
        raise Refusal(f"{clone} is not a clone of the template: git clone it, and run this from there")
    if name is None:
        releases = [tag for tag in git("tag", "--list", cwd=clone).split() if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
        if not releases:
            raise Refusal(
                f"no release is tagged in {clone}: run `make tags` there (git fetch --unshallow first, if shallow)"
            )
        name = max(releases, key=lambda tag: [int(part) for part in tag[1:].split(".")])
    for ref in (f"refs/tags/{name}", name):
        status, commit, _ = attempt("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cwd=clone)
        if not status:
            return Release(clone, name, commit.strip(), ref != name)
    raise Refusal(f"{clone} has no version {name}: `git tag` lists them there")


def source_of(clone: Path) -> str:
    """Where later updates come from, as Copier understands it: the clone's origin, or else the clone."""
    url = attempt("config", "--get", "remote.origin.url", cwd=clone)[1].removesuffix("\n") or str(clone)
    local = clone / Path(url).expanduser()
    if local.exists():
        url = str(local.resolve())
        if local.is_file() or "false" in attempt("rev-parse", "--is-bare-repository", cwd=local)[1]:
            return url
    url = re.sub(r"^(https?://)[^/@]*@", r"\1", url)  # a password must not get into the project's history
    known = ("git@", "git://", "git+", "gh:", "gl:", "https://github.com/", "https://gitlab.com/")
    return url if url.endswith(".git") or url.startswith(known) else f"git+{url}"


def copy(version: Release, folder: Path, **options: Any) -> None:
    """Have Copier ask and render. Refusal, in its words, if an answer can't be, or anything else goes wrong."""
    import copier  # here, so that --help and what is refused come at once

    try:
        copier.run_copy(str(version.clone), folder, vcs_ref=version.commit, quiet=True, **options)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise Refusal(str(error)) from error


# --- the project, as it is found ---


@dataclass(frozen=True)
class Found:
    """A project with everything committed.

    Attributes:
        folder: where it is.
        top: where its repository is.
        prefix: from there to the project; "" or with a slash at the end.
        head: the commit that is checked out.
        back: the arguments of `git switch` that lead to where the owner is.
        who: an identity for git's own notes, where the owner has given it none.
        tracked: mode, and the letter of `git ls-files -v`, by path from the top.
    """

    folder: Path
    top: Path
    prefix: str
    head: str
    back: list[str]
    who: dict[str, str]
    tracked: dict[str, tuple[str, str]]

    @cached_property
    def files(self) -> list[str]:
        return [path.removeprefix(self.prefix) for path in self.tracked if path.startswith(self.prefix)]

    def read(self, name: str) -> str:
        """The text of a file; "" if there is none."""
        path = self.folder / name
        return path.read_text(encoding="utf-8-sig", errors="replace") if name in self.files and path.is_file() else ""


def look(folder: Path, branch: str, clone: Path) -> Found:
    """The project in a folder. Refusal if it can't be adopted as it is."""
    if not folder.is_dir():
        raise Refusal(f"{folder} is not a folder: name the one that holds the project")
    if os.path.lexists(folder / ANSWERS):
        raise Refusal(f"{folder} is made from a template already, {ANSWERS} is there: use `copier update`")
    start = "list data and models in .gitignore, git add --all, git commit"
    status, inside, complaint = attempt("rev-parse", "--is-inside-work-tree", cwd=folder)
    if status:
        why = complaint.partition("\n")[0]  # at the edge of a file system there is one more
        raise Refusal(f"{folder} is in no git repository that can be used ({why}); there: git init, {start}")
    if inside.strip() == "false":
        raise Refusal(f"{folder} is a bare repository, or inside of .git: clone it, and name the clone")
    top = Path(git("rev-parse", "--show-toplevel", cwd=folder).removesuffix("\n"))
    prefix = git("rev-parse", "--show-prefix", cwd=folder).removesuffix("\n")
    if top.resolve() == clone:
        raise Refusal(f"{folder} is the template itself: name a project")
    status, head, _ = attempt("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=top)
    if status:
        raise Refusal(f"{top} has no commit yet; there: {start}")
    check_git(top)
    changes = git("status", "--porcelain", "-z", "--no-renames", "--untracked-files=normal", cwd=top).split("\0")[:-1]
    if changes:
        names = ", ".join([change[3:] for change in changes[:3]] + ["…"] * (len(changes) > 3))
        raise Refusal(f"{top} has changes in no commit ({names}): commit them, or git stash --include-untracked")
    if attempt("check-ref-format", f"refs/heads/{branch}", cwd=top)[0] or branch.startswith("-"):
        raise Refusal(f"{branch} can't be the name of a branch: give another with --branch")
    if not attempt("show-ref", "--verify", "--quiet", f"refs/heads/{branch}", cwd=top)[0]:
        raise Refusal(f"there is a branch {branch} already: give another name with --branch, or delete it")
    lines = [line.split("\t", 1) for line in git("ls-files", "-z", "-s", "-v", cwd=top).split("\0")[:-1]]
    tracked = {path: (about.split()[1], about[0]) for about, path in lines}
    if not any(path.startswith(prefix) for path in tracked):
        raise Refusal(f"nothing of {folder} is committed in {top}: commit it there, or git init it on its own")
    who = AUTHOR if attempt("var", "GIT_COMMITTER_IDENT", cwd=top)[0] else {}
    former = attempt("symbolic-ref", "--short", "--quiet", "HEAD", cwd=top)[1].strip()
    head = head.strip()
    return Found(folder, top, prefix, head, [former] if former else ["--detach", head], who, tracked)


def check_way(project: Found, paths: Iterable[str]) -> None:
    """Refusal if a merge of these paths would overwrite what git has no copy of, or needs a folder where none is."""
    found = {}
    for path in paths:
        if path in project.tracked and project.tracked[path][1] != "H":
            found[path] = "git update-index hides changes in it"
        elif path not in project.tracked and os.path.lexists(project.top / path):
            found[path] = "a folder" if (project.top / path).is_dir() else "git ignores it"
        for parent in map(str, list(PurePosixPath(path).parents)[:-1]):
            disk = project.top / parent
            if parent in project.tracked or disk.is_symlink() or (disk.exists() and not disk.is_dir()):
                found[parent] = "no plain folder"
    if found:
        names = ", ".join(f"{path} ({why})" for path, why in sorted(found.items()))
        advice = "move or rename that, or commit what git ignores (git add --force)"
        raise Refusal(f"something in {project.top} is in the way of the template's files: {names}: {advice}")


# --- guesses ---


def guess(project: Found) -> dict[str, Guess]:
    """Answers, by question."""
    said = list(metadata(project))
    name = declared(said, "name") or (project.folder.name, "name of the folder")
    people = list(authors(project, said))
    author, _, source = people[0]
    emails = [(email, where) for person, email, where in people if person == author and email]
    guesses = {
        "project_name": name,
        "package_name": package(project.files, str(name[0])),
        "description": declared(said, "description"),
        "user_name": (author, source),
        "user_email": emails[0] if emails else None,
        "license": license_of(project, said),
        "data_kind": data_kind(project, said),
        "config_format": config_format(project.files),
        "components": components(project.files),
        "tracker": tracker(project, said),
        "ci": ci(project.files),
    }
    return {question: found or (None, "nothing found") for question, found in guesses.items()}


def metadata(project: Found) -> Iterator[tuple[str, dict[str, Any]]]:
    """What the files about the package say."""
    for name, parse in (("pyproject.toml", parse_pyproject), ("setup.cfg", parse_cfg), ("setup.py", parse_setup)):
        if text := project.read(name):
            try:
                yield name, parse(text)
            except Exception as error:  # whatever is wrong in there, only guesses are lost
                print(f"  {name} can't be read, so nothing is guessed from it: {error}")


def parse_pyproject(text: str) -> dict[str, Any]:
    import tomllib  # Python 3.11 has it; an older one does without these guesses

    data = tomllib.loads(text)
    found = data.get("project") or data.get("tool", {}).get("poetry", {})
    author: Any = next(iter(found.get("authors", [])), {})
    if isinstance(author, str):  # Poetry's "Name <address>"
        author = dict(zip(("name", "email"), author.strip("> ").split(" <"), strict=False))
    terms = found.get("license")
    return {
        **found,
        "author": author.get("name"),
        "author_email": author.get("email"),
        "license": terms.get("text") if isinstance(terms, dict) else terms,
        "requires": [*found.get("dependencies", []), *chain(*found.get("optional-dependencies", {}).values())],
    }


def parse_cfg(text: str) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    found = dict(parser["metadata"]) if parser.has_section("metadata") else {}
    requires = parser.get("options", "install_requires", fallback="").split("\n")
    literal = {key.replace("-", "_"): value for key, value in found.items() if not re.match("(attr|file):", value)}
    return literal | {"requires": requires}


def parse_setup(text: str) -> dict[str, Any]:
    """The arguments of setup() that are literals, or names of literals. Nothing is run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as one for "\d"
        nodes = list(ast.walk(ast.parse(text)))
    assignments = [node for node in nodes if isinstance(node, ast.Assign)]
    assigned = {ast.unparse(node.targets[0]): node.value for node in assignments}
    found = dict[Any, Any]()
    for node in nodes:
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "setup":
            for word in node.keywords:
                with contextlib.suppress(ValueError):  # no literal
                    found[word.arg] = ast.literal_eval(assigned.get(ast.unparse(word.value), word.value))
    return found | {"requires": list(found.get("install_requires") or [])}


def declared(said: Metadata, key: str) -> Guess | None:
    """What the first file about the package that has a key says under it, as one line."""
    texts = ((" ".join(found[key].split()), file) for file, found in said if isinstance(found.get(key), str))
    return next(((text, f"{key} in {file}") for text, file in texts if text), None)


def authors(project: Found, said: Metadata) -> Iterator[tuple[str | None, str, str]]:
    """Who may be the author: name, e-mail (or ""), and where that is from; the likeliest first."""
    for file, found in said:
        if author := declared([(file, found)], "author"):
            yield author[0], str(found.get("author_email") or ""), author[1]
    form = ["--no-show-signature", "--encoding=UTF-8", "--format=%aN%x09%aE"]
    commits = git("log", *form, "--", ".", cwd=project.folder).splitlines()
    for line, count in Counter(commits).most_common():
        name, _, email = line.partition("\t")
        if not name.endswith("[bot]"):
            yield name, email, f"{count} of {len(commits)} commits"
    name, email = (attempt("config", "--get", f"user.{key}", cwd=project.top)[1].strip() for key in ("name", "email"))
    yield name or None, email, "git config" if name else "nothing found"


def package(files: list[str], project_name: str) -> Guess:
    """The package in src/, or else at the top: the only one, or the one with the project's name."""
    roles = r"base|conf|configs?|core|data|data_?loaders?|datasets?|docs|engine|examples|lib|logger|loss(es)?|models?|"
    roles += r"modules|networks?|notebooks|scripts|src|tests?|tools|trainers?|utils"
    wanted = re.sub(r"[-_. ]+", "_", project_name).lower()
    for place in ("src/", ""):
        names = {match[1] for file in files if (match := re.fullmatch(rf"{place}([^/]+)/__init__\.py", file))}
        found = {name for name in names if not re.fullmatch(roles, name)}
        chosen = sorted({name for name in found if name.lower() == wanted} or found)
        if len(chosen) == 1:
            return chosen[0], f"folder {place}{chosen[0]}"
        if chosen:
            return None, f"more than one package: {', '.join(chosen)}"
    return None, "no package found"


def license_of(project: Found, said: Metadata) -> Guess:
    """The license that is there. `none` where it can't be told, for adopting must not grant what the owner has not."""
    files = [file for file in project.files if re.fullmatch(r"(?i)(licen[sc]e|copying)([-._][^/]*)?", file)]
    text = " ".join(" ".join(project.read(file) for file in files).split()).lower()
    terms, where = declared(said, "license") or ("", "")
    found = [name for name, words in LICENSES.items() if re.search(words, text)]
    if not files:
        found = [name for name in LICENSES if terms in (name, f"{name} License")]
    where = ", ".join(files) or where
    if len(found) == 1 and not (found[0].startswith("GPL") and "only" in str(terms)):
        return found[0], where
    return "none", f"{where}: not one that the template has" if where else "there is no license"


def data_kind(project: Found, said: Metadata) -> Guess:
    """The kind of data that most of the project's requirements, imports and file names speak of."""
    places = ["*.py", "*requirements*.txt", "environment*.y*ml"]
    counts = dict[str, tuple[int, str]]()
    for answer, words in KINDS.items():
        pattern = rf"^[[:space:]]*(import|from)[[:space:]]+\.*({words})|^[- ]*({words})"
        lines = attempt("grep", "-l", "-z", "-i", "-E", pattern, "--", *places, cwd=project.folder).said
        found = set(lines.split("\0")[:-1])
        found |= {file for file in project.files if re.search(rf"(?i)(^|[/_.-])({words})[^/]*\.py$", file)}
        found |= {
            file for file, about in said if any(re.match(f"(?i){words}", str(name)) for name in about["requires"])
        }
        if found:
            counts[answer] = (len(found), min(found))
    if not counts:
        return None, "nothing found"
    answer = max(counts, key=lambda kind: counts[kind][0])  # of equals the first: images are in many projects
    number, file = counts[answer]
    return answer, file + (f" and {number - 1} more file{'s' * (number > 2)}" if number > 1 else "")


def config_format(files: list[str]) -> Guess | None:
    """The format of most files in the folder for configs."""
    kinds = {"yaml": "yaml", "yml": "yaml", "json": "json", "ini": "ini", "cfg": "ini", "py": "py"}
    inside = [file for file in files if re.match(r"(configs?|conf)/", file) and not file.endswith("__init__.py")]
    count = Counter(kinds[suffix] for file in inside if (suffix := file.rpartition(".")[2]) in kinds)
    return next(((kind, f"{number} of {len(inside)} files for configs") for kind, number in count.most_common(1)), None)


def components(files: list[str]) -> Guess | None:
    """Whether losses lie in a folder, or in a file."""
    for answer, pattern in (("folder", r"(.*/)?loss(es)?/[^/]+\.py"), ("file", r"(.*/)?loss(es)?\.py")):
        if found := next((file for file in files if re.fullmatch(pattern, file)), None):
            return answer, found
    return None


def tracker(project: Found, said: Metadata) -> Guess | None:
    """Which tracker is required or imported."""
    for answer in ("tensorboard", "mlflow", "wandb", "trackio"):
        for file, found in said:
            if any(re.match(f"(?i){answer}", str(name)) for name in found["requires"]):
                return answer, f"required in {file}"
        words = rf"^[[:space:]]*(import|from)[[:space:]]+(torch\.utils\.)?{answer}|^{answer}"
        file = attempt("grep", "-l", "-z", "-E", words, "--", "*.py", "*requirements*.txt", cwd=project.folder)[1]
        if file:
            return answer, file.split("\0")[0]
    return None


def ci(files: list[str]) -> Guess | None:
    """Where the tests run on each push."""
    places = {"github": r"\.github/workflows/.+", "gitlab": r"\.gitlab-ci\.yml"}
    found = ((answer, file) for answer, place in places.items() for file in files if re.fullmatch(place, file))
    return next(found, None)


# --- the render ---


def given(texts: list[str], questions: list[str]) -> dict[str, str]:
    """The answers of the command line. Refusal for one without a question."""
    for text in texts:
        if "=" not in text or text.partition("=")[0] not in questions:
            raise Refusal(f"--data {text}: write KEY=VALUE, where KEY is one of {', '.join(questions)}")
    return {key: value for key, _, value in (text.partition("=") for text in texts)}


def accept(version: Release, questions: list[str], data: dict[str, str], guesses: dict[str, Guess]) -> dict[str, str]:
    """The guesses that the template's own checks let pass. Each is printed, with where it comes from."""
    left = {key: guesses.get(key, (None, "not guessed")) for key in questions if key not in data}
    while True:
        answers = {key: value for key, (value, _) in left.items() if value is not None}
        try:
            with tempfile.TemporaryDirectory() as folder:
                copy(version, Path(folder), data=data, user_defaults=answers, defaults=True, exclude=["*"])
            break
        except Refusal as error:
            refused = re.search(r"'(\w+)': (.*)", str(error))
            if not refused or refused[1] not in answers:
                raise
            value, where = left[refused[1]]
            left[refused[1]] = None, f"{where} is {value!r}, but {refused[2]}"
    for key in questions:
        value, where = (data[key], "given") if key in data else left[key]
        print(f"  {key}:", "the template's default" if value is None else value, f"({where})")
    return answers


def record(answers: Path, source: str, version: Release) -> dict[str, str]:
    """Write into the answers where updates come from; the answers."""
    import yaml
    from update.versions import record

    text = answers.read_text(encoding="utf-8")
    text = record(text, version.name if version.is_tag else yaml.safe_load(text)["_commit"], source)
    answers.write_text(text, encoding="utf-8")
    recorded: dict[str, str] = yaml.safe_load(text)
    return recorded


def commit_render(project: Found, files: dict[str, Path], message: str, index: Path) -> str:
    """A commit without parents that holds the rendered files by path, as the project's own attributes store them."""
    entries, where = "", {"GIT_INDEX_FILE": str(index)}
    for path, file in files.items():
        blob = git("hash-object", "-w", f"--path={path}", "--", str(file), cwd=project.top).strip()
        entries += f"{'100755' if file.stat().st_mode & 0o100 else '100644'} {blob}\t{path}\0"
    git("update-index", "-z", "--index-info", cwd=project.top, given=entries, env=where)
    tree = git("write-tree", cwd=project.top, env=where).strip()
    return git("commit-tree", "-m", message, tree, cwd=project.top, env=AUTHOR).strip()


# --- the merge ---


def merge(project: Found, branch: str, commit: str, label: str, paths: Iterable[str]) -> tuple[list[str], str]:
    """Merge a commit on a new branch: what is in conflict, or why git can't commit. If it fails, all is as it was."""
    top, who = project.top, project.who
    options = ["--no-commit", "--no-ff", "--strategy=ort", "--no-verify-signatures", "--no-rerere-autoupdate"]
    options += ["--allow-unrelated-histories", "-m", f"Adopt {label}"]
    git("branch", "--no-track", branch, cwd=top, env=who)
    try:
        git("update-ref", f"refs/{label}", commit, cwd=top, env=who)  # the name that conflicts show
        git("switch", "--quiet", branch, cwd=top, env=who)
        with tempfile.TemporaryDirectory() as folder:  # of what is ignored, all lines of both
            attributes = Path(folder, "attributes")
            attributes.write_text(".gitignore merge=union\n")
            both = ["-c", f"core.attributesFile={attributes}"]
            status, printed, complaint = attempt(*both, "merge", *options, label, cwd=top, env=who)
        unmerged = git("ls-files", "--unmerged", "-z", cwd=top).split("\0")[:-1]
        if status != (1 if unmerged else 0):
            raise Refusal(f"git merge: {complaint or printed.strip()}")
        status, _, complaint = (0, "", "") if unmerged else attempt("commit", "--quiet", "--no-edit", cwd=top)
    except BaseException as error:
        try:
            go_back(project, branch, paths)
        except Refusal as stuck:
            raise Refusal(f"{error}. Going back failed too, see git status in {top}: {stuck}") from error
        raise
    finally:
        attempt("update-ref", "-d", f"refs/{label}", cwd=top)
    return sorted({entry.split("\t", 1)[1] for entry in unmerged}), (complaint or "git commit failed") if status else ""


def go_back(project: Found, branch: str, paths: Iterable[str]) -> None:
    """Undo a merge, even a broken one: thanks to `check_way`, all that it wrote at these paths is the template's."""
    top, who = project.top, project.who
    attempt("merge", "--abort", cwd=top, env=who)
    for path in paths:
        if path in project.tracked:
            git("--literal-pathspecs", "checkout", "--quiet", project.head, "--", path, cwd=top)
        else:
            (top / path).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                os.removedirs((top / path).parent)
    git("switch", "--quiet", *project.back, cwd=top, env=who)
    git("branch", "--delete", "--force", "--quiet", branch, cwd=top)
    print("Back as it was, without the new branch.", file=sys.stderr)


def report(project: Found, branch: str, version: str, conflicts: list[str], complaint: str) -> None:
    """Say what was done, what is left to do, and how to go back."""
    options = ["--name-only", "--no-renames", "--diff-filter=M", "-z"]
    changed = set(git("diff", *options, project.head, cwd=project.top).split("\0")[:-1]) - set(conflicts)
    where = shlex.quote(str(project.folder))
    print(f"In {where}, copier-torch {version} is merged into the new branch {branch}", end="")
    if conflicts:
        print(", but for these files, which you have too, and which differ:\n")
        print(*(f"    {path.removeprefix(project.prefix)}" for path in conflicts), sep="\n")
        print("\nEach holds both now, yours above =======, the template's below; without these marks (as in a binary")
        print("file), it is yours. Keep what you want of each. To take a whole one:\n")
        print("    git checkout --ours FILE       yours\n    git checkout --theirs FILE     the template's")
        print("\nThen git add FILE, for each, and git commit.")
    elif complaint:
        print(f", but not committed:\n\n{complaint}\n\nAll is staged. Once that is fixed: git commit --no-edit")
    else:
        print(".")
    if changed:
        names = ", ".join(path.removeprefix(project.prefix) for path in sorted(changed))
        print(f"\nChanged without a conflict: {names}")
        print("(.gitignore has all lines of both; others were empty, or are merged as your .gitattributes say.)")
    print("\nTo go back:\n")
    print("    git merge --abort\n" * bool(conflicts or complaint) + f"    git switch {shlex.join(project.back)}")
    print(f"    git branch --delete --force {shlex.quote(branch)}")


# --- the command ---


def adopt(folder: Path, branch: str, version: Release, texts: list[str], defaults: bool) -> int:
    """Merge a version of the template into a project; the exit status."""
    import yaml

    project = look(folder, branch, version.clone)
    settings = yaml.safe_load(git("show", f"{version.commit}:copier.yml", cwd=version.clone))
    questions = [key for key in settings if not key.startswith("_")]
    data = given(texts, questions)
    print(f"Answers for copier-torch {version.name}, and where they come from:\n")
    guesses = accept(version, questions, data, guess(project))
    if defaults and "data_kind" in questions and "data_kind" not in {**data, **guesses}:
        known = ", ".join(settings["data_kind"]["choices"])
        raise Refusal(f"what the project learns from can't be told: add -d data_kind=KIND, which is one of {known}")
    print("" if defaults else "\nThe questions start from these:\n")
    with tempfile.TemporaryDirectory() as temporary:
        render = Path(temporary, "render")
        copy(version, render, data=data, user_defaults=guesses, defaults=defaults)
        source = source_of(version.clone)
        answers = record(render / ANSWERS, source, version)
        files = {project.prefix + f.relative_to(render).as_posix(): f for f in render.rglob("*") if f.is_file()}
        check_way(project, files)
        label = f"copier-torch/{answers['_commit']}"
        commit = commit_render(project, files, f"Render {label}", Path(temporary, "index"))
    missing = lacks(source, version)
    conflicts, complaint = merge(project, branch, commit, label, files)
    report(project, branch, answers["_commit"], conflicts, complaint)
    warn(project, files)
    print(f"\nLater, `copier update --trust` brings new versions there, from {source}.")
    if missing:
        print(f"That has no {version.name} yet, and needs it: git push origin {version.name}, in {version.clone}")
    name = answers.get("package_name", "")
    if f"{name}/__init__.py" in project.files:
        print(f"Your package stays in {name}/, the template's is src/{name}/: move what you keep there, with git mv.")
    return 1 if conflicts or complaint else 0


def warn(project: Found, paths: Iterable[str]) -> None:
    """Say which lines also ignore files of the template: new files beside these would not be committed."""
    given = "".join(f"{path}\0" for path in paths)
    words = ["check-ignore", "--no-index", "--verbose", "-z", "--stdin"]
    found = attempt(*words, cwd=project.top, given=given).said.split("\0")[:-1]
    lines: dict[str, str] = {}
    for file, number, pattern, path in zip(*(found[start::4] for start in range(4)), strict=True):
        if not pattern.startswith("!"):
            lines.setdefault(f"{file}, line {number}: {pattern}", path)
    for line, path in lines.items():
        print(f"\n{line} ignores {path}, too. If it means a folder at the top, let it begin with a slash.")


def lacks(source: str, version: Release) -> bool:
    """Whether the place that updates come from is known to lack the version that they start from."""
    words = ["ls-remote", "--exit-code", source.removeprefix("git+"), f"refs/tags/{version.name}"]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=5"}
    return version.is_tag and attempt(*words, cwd=version.clone, env=quiet)[0] == 2


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be no text
    parser = argparse.ArgumentParser(
        prog="python extensions/adopt.py",
        description="Let a project that was not made from this template join it: `copier update` then works on it.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("project", metavar="PROJECT", help="its folder, with everything committed to git")
    parser.add_argument("--defaults", action="store_true", help="ask nothing, take the guesses")
    parser.add_argument("-d", "--data", metavar="KEY=VALUE", action="append", default=[], help="an answer; repeatable")
    parser.add_argument("--vcs-ref", metavar="REF", help="the template's version (default: the newest release)")
    parser.add_argument(
        "--branch", metavar="NAME", default="copier-torch", help="the new branch (default: copier-torch)"
    )
    options = parser.parse_args(arguments)
    try:
        if not find_spec("copier"):
            command = "python -m pip install copier, or use `uv run` or `pipx run` in place of `python`"
            raise Refusal(f"there is no Copier for {sys.executable}: {command}")
        if not options.defaults and not sys.stdin.isatty():
            raise Refusal("there is no terminal to ask questions in: add --defaults")
        if variables := sorted({"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"} & set(os.environ)):
            raise Refusal(f"git is told which repository to use, whatever the folder: unset {' '.join(variables)}")
        version = find_version(Path(__file__).resolve().parents[1], options.vcs_ref)
        return adopt(Path(options.project).resolve(), options.branch, version, options.data, options.defaults)
    except Refusal as why:
        print(f"Not adopted: {why}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped; nothing has changed.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
