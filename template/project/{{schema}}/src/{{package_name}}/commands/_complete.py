"""What the Tab key completes, for scripts/completion.*; nothing that was typed is executed."""

import argparse
import ast
import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..cli import build_parser
from ..config import FORMATS, locate
from ..options import DEVICE, Config
from .schema import PLACES, build, files_of, names

PACKAGE = Path(__file__).parents[1]
TORCH = {  # the files that define what a config can name; importing them takes seconds
    "loss": ("nn/modules/loss.py", r"^class ([A-Z]\w*Loss)\("),
    "optimizer": ("optim/*.py", r"^class ([A-Z]\w*)\((?:Optimizer|Adam)\)"),
    "scheduler": ("optim/lr_scheduler.py", r"^class ([A-Z]\w*)\("),
}
BY_NAME = {"data.transforms": "transforms", "train.hooks": "hooks"}  # names, each with arguments
RUNS = ["compare", "delete", "keep-best"]  # first words of the command `runs`
PATHS = ("data.folder", "model.weights", "run.checkpoints", "run.images")


def complete(words: list[str]) -> list[str]:
    """The words that can replace the last one; the first word names the command."""
    *before, word = words
    [commands] = [a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction)]
    if not before:
        return list(commands.choices)
    command = commands.choices[before[0]]
    options = command._option_string_actions
    flag, equals, value = word.partition("=")
    if equals and flag in options:
        return [f"{flag}={found}" for found in argument(options[flag], before, value)]
    last = options.get(before[-1])
    if last and last.nargs is None:
        return argument(last, before, word)
    if word.startswith("-"):
        return list(options)
    optional = [last] if last and last.nargs == "?" else []
    positional = [action for action in command._actions if not action.option_strings]
    return [found for a in (*optional, *positional) for found in argument(a, before, word)]


def argument(action: argparse.Action, before: list[str], word: str) -> list[str]:
    """The values of an option or a positional argument, as its type and its help say."""
    if action.choices:
        return [str(choice) for choice in action.choices]
    text, found = action.help or "", list[str]()
    if "section.key=value" in text:
        found += setting(before, word)
    if before[0] == "runs" and not action.option_strings:
        found += run_names(before) + (RUNS if len(before) == 1 else [])
    elif re.search(r"\brun\b", text):
        found += run_names(before) + files(word, (".pt",))
    elif "config files" in text:
        found += files(word, [f".{suffix}" for suffix in FORMATS])
    elif not action.option_strings or action.metavar in ("FILE", "FOLDER") or action.type is locate:
        found += files(word)
    return found


def run_names(before: list[str]) -> list[str]:
    """The folders in checkpoints/, or in the folder that `--checkpoints` names."""
    folder = locate("checkpoints", inside=True)
    if "--checkpoints" in before[:-1]:
        folder = locate(before[before.index("--checkpoints") + 1])
    return [Path(name).name for name in files(f"{folder}/", ("/",))]


def files(word: str, endings: Sequence[str] = ("",)) -> list[str]:
    """The folders, and the files with one of these endings, whose paths start with `word`."""
    folder, slash, start = word.rpartition("/")
    place, found = os.path.expanduser(folder + slash) or ".", list[str]()
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(start) and (start or entry.name[0] != "."):
                found += [folder + slash + entry.name + ("/" if entry.is_dir() else "")]
    return [path for path in found if path.endswith(("/", *endings))]


def setting(before: list[str], word: str) -> list[str]:
    """The keys of the config that continue `word`, or the values of its key."""
    key, equals, text = word.partition("=")
    section, *path = key.split(".")
    if not path:
        return [f"{name}." for name in Config.model_fields]
    if section not in Config.model_fields:
        return []
    kind: Any = Config.model_fields[section].annotation
    options = build()["$defs"][kind.__name__]["properties"]
    if equals:
        found = values(key, options[path[0]], before, text) if path[1:] == [] else []
        return [f"{key}={value}" for value in found]
    if len(path) == 1:
        ends = {name: "." if o.get("type") == "object" else "=" for name, o in options.items()}
        return [f"{section}.{name}{end}" for name, end in ends.items()]
    inside, above = f"{section}.{path[0]}", key.rpartition(".")[0]
    if inside in BY_NAME and len(path) == 2:
        return [f"{inside}.{name}." for name in names(BY_NAME[inside])]
    if inside in BY_NAME:
        found = arguments(BY_NAME[inside], [path[1]])
    elif path[0] == "args" and section in PLACES:
        chosen = [w.partition("=")[2] for w in before if w.startswith(f"{section}.name=")]
        found = arguments(PLACES[section], chosen[-1:] or names(PLACES[section]))
    else:
        return []
    task = (PACKAGE / "task.py").read_text("utf-8")  # gives a model the sizes of the data
    given = re.findall(r'(\w+)"?[:=]', task) if section == "model" else []
    return [f"{above}.{name}=" for name in found if name not in (*given, *options)]


def values(key: str, option: dict[str, Any], before: list[str], text: str) -> list[str]:
    """The values that an option can have, as far as they can be listed."""
    if key in PATHS:
        return files(text) + (run_names(before) if key == "model.weights" else [])
    if key == "run.device":
        return re.split(", | or ", DEVICE.description or "")
    if key == "run.tracker":
        trackers = (PACKAGE / "engine" / "tracking").glob("[!_]*.py")
        return ["none", *(p.stem for p in trackers if "class Tracker" in p.read_text("utf-8"))]
    if key == "checkpoint.monitor":  # the metrics of earlier runs
        tables = locate("checkpoints", inside=True).glob("*/metrics.csv")
        heads = ",".join(path.read_text("utf-8").partition("\n")[0] for path in tables)
        return ["loss", *re.findall(r"\bvalid_(\w+)", heads)]
    fixed: dict[str, list[Any]] = {"boolean": [True, False], "null": [None]}
    listed = [*option.get("enum", ()), *fixed.get(option.get("type", ""), ())]
    listed += [option["const"]] if "const" in option else []
    found = [value if isinstance(value, str) else json.dumps(value) for value in listed]
    for part in option.get("anyOf", ()):
        found += values("", part, before, text)
    section, _, name = key.partition(".")
    torch = find_spec("torch") if section in TORCH and name == "name" else None
    for folder in torch.submodule_search_locations or () if torch else ():
        paths, pattern = TORCH[section]
        for path in Path(folder).glob(paths):
            found += re.findall(pattern, path.read_text("utf-8"), re.MULTILINE)
    unsupported = (PACKAGE / "components.py").read_text("utf-8") if torch else ""
    return [value for value in found if f'"{value}": "' not in unsupported]


def arguments(place: str, owners: list[str]) -> list[str]:
    """The arguments with a default of these functions and classes, which are not imported."""
    found = list[str]()
    for path in files_of(place):
        for part in ast.parse(path.read_bytes()).body:
            if not isinstance(part, ast.FunctionDef | ast.ClassDef) or part.name not in owners:
                continue
            inner = part.body if isinstance(part, ast.ClassDef) else [part]
            for function in inner:
                if isinstance(function, ast.FunctionDef) and function.name in (*owners, "__init__"):
                    taken = function.args
                    given = [*taken.posonlyargs, *taken.args]
                    optional = given[len(given) - len(taken.defaults) :] + taken.kwonlyargs
                    found += [each.arg for each in optional]
    return found


# --- the shells
def split(line: str, breaks: str) -> tuple[list[str], str, int]:
    """The words of a line of bash, the open quote, and how much of the last word readline keeps."""
    words, quote, escaped, start = [""], "", False, 0
    for char in line:
        if escaped or (quote and char not in (quote, "\\")) or (quote == "'" and char == "\\"):
            words[-1] += char
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ("'", '"'):
            quote, start = "" if quote else char, len(words[-1])
        elif char.isspace():
            words, start = [*words, ""] if words[-1] else words, 0
        else:
            words[-1] += char
            start = len(words[-1]) if char in breaks else start
    return words, quote, start


def quoted(word: str, quote: str) -> str:
    """A word as bash reads it back, inside an open quote if there is one, and closed if whole."""
    end = "" if word[-1:] in "=./" else quote or " "
    if quote == "'":
        return word.replace("'", "'\\''") + end
    if quote:
        return re.sub(r'([$`"\\])', r"\\\1", word) + end
    home = word[:2] if word.startswith("~/") else ""
    return home + re.sub(r"([^\w@%+=:,./-])", r"\\\1", word[len(home) :]) + end


def main(shell: str, *words: str) -> None:
    """Print the words that can replace the last one, one per line; quoted only for bash."""
    typed, quote, start = split(words[0], words[1]) if shell == "bash" else ([*words], "", 0)
    script = re.search(r"([^/]+)\.sh$", typed[0])
    typed = [script[1], *typed[1:]] if script else typed[typed.index("-m") + 2 :]
    with contextlib.redirect_stdout(sys.stderr):
        found = sorted({w for w in complete(typed) if w.startswith(typed[-1]) and w.isprintable()})
    if not typed[-1].startswith("-"):
        found = [word for word in found if word[0] != "-"]
    if shell == "bash":
        found = [quoted(word[start:], quote) for word in found]
        common = os.path.commonprefix(found)  # noqa: RUF071
        if len(found) > 1 and re.search(r"(?<!\\)(\\\\)*\\$", common):
            found.append(common[:-1])  # readline inserts the common prefix: no half of an escape
    print(*found, sep="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
