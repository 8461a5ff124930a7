"""The command `schema`: a JSON Schema of the configs, so that editors complete and check them."""

import argparse
import inspect
import json
import re
from pathlib import Path
from typing import Any

from ..config import Section, locate
from ..errors import UserError
from ..options import Config

PLACES = {"model": "model", "loss": "loss", "optimizer": "optim", "scheduler": "scheduler"}


def schema(args: argparse.Namespace) -> None:
    """Write a JSON Schema of the configs, for editors and validators."""
    path = Path(args.to) if args.to else locate("configs/schema.json", inside=True)
    text = json.dumps(build(), indent=2, ensure_ascii=False) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror})") from error
    print(path)


def build() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a config. No option is required: a preset has only some."""
    found = Config.model_json_schema()
    for part in (found, *found["$defs"].values()):
        part.pop("required", None)
        for option in part.get("properties", {}).values():
            option.pop("title", None)  # the key, in capitals
    configs = sorted(locate("configs", inside=True).glob("train.*"))
    written = comments(configs[0].read_text("utf-8", "replace")) if configs else {}
    for key, field in Config.model_fields.items():
        section: Any = field.annotation
        part = found["$defs"][section.__name__]
        part["description"], short = describe(section)
        for name, option in part["properties"].items():
            if text := written.get((key, name)) or short.get(name):
                option["description"] = text
        if key in PLACES:  # editors suggest your own parts; torch's are allowed too
            option = part["properties"]["name"]
            option["anyOf"] = [{"enum": names(PLACES[key])}, {"type": option.pop("type")}]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def comments(config: str) -> dict[tuple[str, str], str]:
    """The comment above each option of a config, by section and key; JSON has none."""
    found, section, above = dict[tuple[str, str], str](), "", list[str]()
    for line in config.splitlines():
        if head := re.match(r"\[?(\w+)(?:\]|:| = dict\()$", line):
            section, above = head[1], []
        elif comment := re.match(r"\s*# (.+)", line):
            above.append(comment[1])
        elif key := re.match(r"\s*(\w+)\s*[:=]", line):
            found[section, key[1]], above = " ".join(above), []
        else:
            above = []
    return found


def describe(section: type[Section]) -> tuple[str, dict[str, str]]:
    """The comments in the source on a section, and those on its options by name."""
    about, found = "", dict[str, str]()
    for each in reversed(section.__mro__):
        if issubclass(each, Section) and each is not Section:
            source = inspect.getsource(each)
            found |= dict(re.findall(r"^    (\w+): .*?  # (.+)$", source, re.MULTILINE))
            head = re.match(r"class .*?:  # (.+)", source)
            about = head[1] if head else inspect.getdoc(each) or ""
    return about, found


def files_of(place: str) -> list[Path]:
    """The package's files that define your models, your losses, or other parts of one kind."""
    package = Path(__file__).parents[1]
    files = [package / f"{place}.py", *sorted((package / place).rglob("*.py"))]
    return [path for path in files if path.is_file() and path.name != "utils.py"]


def names(place: str) -> list[str]:
    """The public functions and classes in a file or folder of the package; of models, functions."""
    text = "\n".join(path.read_text("utf-8") for path in files_of(place))
    kinds = "def" if place == "model" else "def|class"
    return sorted(set(re.findall(rf"^(?:{kinds}) ([^\W_]\w*)", text, re.MULTILINE)))


def add_to(add: Any) -> None:
    sub = add(schema)
    sub.add_argument("--to", metavar="FILE", help="the file to write (configs/schema.json)")
