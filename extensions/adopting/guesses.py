"""Answers guessed from a project's files. None of its code is run."""

import ast
import configparser
import contextlib
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any, TypeAlias

from update.git import attempt, git

from .project import Candidate

LICENSES = {  # patterns of their texts, in lower case and with single spaces
    "MIT": "permission is hereby granted, free of charge, .* this permission notice shall be included",
    "Apache-2.0": "^apache license version 2.0",
    "BSD-3-Clause": "redistribution and use in source and binary forms, (?!.* advertising material).* neither the ",
    "GPL-3.0-or-later": "^gnu general public license version 3(?!.* gnu lesser general public license version 3)",
}
KINDS = {  # imports and file names that are typical of a kind of data
    "object_detection": "pycocotools|faster_coco_eval|ultralytics|detectron2|mmdet|effdet|yolo|faster_?rcnn|ssd300",
    "image_segmentation": "segmentation_models_pytorch|mmseg|unet|deeplab|segment",
    "audio_classification": "torchaudio|librosa|soundfile|speechbrain|audio|mel_?spectrogram",
    "language_modeling": "tiktoken|sentencepiece|tokenizers|gpt|llama|language_model|char_?rnn",
    "text_classification": "torchtext|spacy|nltk|bert|sentiment",
    "time_series": "darts|gluonts|neuralforecast|forecast|time_?series",
    "tabular": "xgboost|lightgbm|catboost|pytorch_tabular|tabnet|tabular",
    "image_classification": "torchvision|timm|cv2|resnet|mnist|cifar|imagenet",
}

Guess: TypeAlias = tuple[str | None, str]  # an answer and its source; or None and the reason
Metadata: TypeAlias = list[tuple[str, dict[str, Any]]]  # per file with metadata, the values under setup()'s names


def guess(project: Candidate) -> dict[str, Guess]:
    """The guesses, by question."""
    sources = list(metadata(project))
    name = declared(sources, "name") or (project.folder.name, "name of the folder")
    people = list(authors(project, sources))
    author, _, source = people[0]
    emails = [(email, where) for person, email, where in people if person == author and email]
    guesses = {
        "project_name": name,
        "package_name": package(project.files, str(name[0])),
        "description": declared(sources, "description"),
        "user_name": (author, source),
        "user_email": emails[0] if emails else None,
        "license": license_of(project, sources),
        "data_kind": data_kind(project, sources),
        "config_format": config_format(project.files),
        "components": components(project.files),
        "tracker": tracker(project, sources),
        "ci": ci(project.files),
    }
    return {question: found or (None, "nothing found") for question, found in guesses.items()}


def metadata(project: Candidate) -> Iterator[tuple[str, dict[str, Any]]]:
    """The metadata of each file that has some."""
    for name, parse in (("pyproject.toml", parse_pyproject), ("setup.cfg", parse_cfg), ("setup.py", parse_setup)):
        if text := project.read(name):
            try:
                yield name, parse(text)
            except Exception as error:  # any error in there costs only guesses
                print(f"  {name}: cannot be read, so it is not used for guesses: {error}")


def parse_pyproject(text: str) -> dict[str, Any]:
    import tomllib  # new in Python 3.11; older ones skip these guesses

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
                with contextlib.suppress(ValueError):  # not a literal
                    found[word.arg] = ast.literal_eval(assigned.get(ast.unparse(word.value), word.value))
    return found | {"requires": list(found.get("install_requires") or [])}


def declared(sources: Metadata, key: str) -> Guess | None:
    """The value of a key in the first file that has it, as one line."""
    texts = ((" ".join(found[key].split()), file) for file, found in sources if isinstance(found.get(key), str))
    return next(((text, f"{key} in {file}") for text, file in texts if text), None)


def authors(project: Candidate, sources: Metadata) -> Iterator[tuple[str | None, str, str]]:
    """Possible authors: name, e-mail (or "") and source; the likeliest first."""
    for file, found in sources:
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
    """The package in src/, or else at the top level: the only one, or the one with the project's name."""
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


def license_of(project: Candidate, sources: Metadata) -> Guess:
    """The project's license; `none` if unknown: adopting must not grant rights that the owner has not granted."""
    files = [file for file in project.files if re.fullmatch(r"(?i)(licen[sc]e|copying)([-._][^/]*)?", file)]
    text = " ".join(" ".join(project.read(file) for file in files).split()).lower()
    terms, where = declared(sources, "license") or ("", "")
    found = [name for name, words in LICENSES.items() if re.search(words, text)]
    if not files:
        found = [name for name in LICENSES if terms in (name, f"{name} License")]
    where = ", ".join(files) or where
    if len(found) == 1 and not (found[0].startswith("GPL") and "only" in str(terms)):
        return found[0], where
    return "none", f"{where}: not one of the template's licenses" if where else "no license found"


def data_kind(project: Candidate, sources: Metadata) -> Guess:
    """The kind of data that most of the project's requirements, imports and names suggest."""
    places = ["*.py", "*requirements*.txt", "environment*.y*ml"]
    counts = dict[str, tuple[int, str]]()
    for answer, words in KINDS.items():
        pattern = rf"^[[:space:]]*(import|from)[[:space:]]+\.*({words})|^[- ]*({words})"
        lines = attempt("grep", "-l", "-z", "-i", "-E", pattern, "--", *places, cwd=project.folder).stdout
        found = set(lines.split("\0")[:-1])
        found |= {file for file in project.files if re.search(rf"(?i)(^|[/_.-])({words})[^/]*\.py$", file)}
        found |= {
            file for file, about in sources if any(re.match(f"(?i){words}", str(name)) for name in about["requires"])
        }
        if re.search(f"(?i){words}", project.folder.name):
            found.add("name of the folder")
        if found:
            counts[answer] = (len(found), min(found))
    if not counts:
        return None, "nothing found"
    answer = max(counts, key=lambda kind: counts[kind][0])  # ties: the first in KINDS; images come last
    number, file = counts[answer]
    return answer, file + (f" and {number - 1} more file{'s' * (number > 2)}" if number > 1 else "")


def config_format(files: list[str]) -> Guess | None:
    """The format of most files in the config folder."""
    kinds = {"yaml": "yaml", "yml": "yaml", "json": "json", "ini": "ini", "cfg": "ini", "py": "py"}
    inside = [file for file in files if re.match(r"(configs?|conf)/", file) and not file.endswith("__init__.py")]
    count = Counter(kinds[suffix] for file in inside if (suffix := file.rpartition(".")[2]) in kinds)
    return next(((kind, f"{number} of {len(inside)} config files") for kind, number in count.most_common(1)), None)


def components(files: list[str]) -> Guess | None:
    """Whether losses are in a folder or in a file."""
    for answer, pattern in (("folder", r"(.*/)?loss(es)?/[^/]+\.py"), ("file", r"(.*/)?loss(es)?\.py")):
        if found := next((file for file in files if re.fullmatch(pattern, file)), None):
            return answer, found
    return None


def tracker(project: Candidate, sources: Metadata) -> Guess | None:
    """The tracker that is required or imported."""
    for answer in ("tensorboard", "mlflow", "wandb", "trackio"):
        for file, found in sources:
            if any(re.match(f"(?i){answer}", str(name)) for name in found["requires"]):
                return answer, f"required in {file}"
        words = rf"^[[:space:]]*(import|from)[[:space:]]+(torch\.utils\.)?{answer}|^{answer}"
        file = attempt("grep", "-l", "-z", "-E", words, "--", "*.py", "*requirements*.txt", cwd=project.folder)[1]
        if file:
            return answer, file.split("\0")[0]
    return None


def ci(files: list[str]) -> Guess | None:
    """The CI service that is configured."""
    places = {"github": r"\.github/workflows/.+", "gitlab": r"\.gitlab-ci\.yml"}
    found = ((answer, file) for answer, place in places.items() for file in files if re.fullmatch(place, file))
    return next(found, None)
