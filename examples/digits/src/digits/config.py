"""Read config files (yaml, json, ini, py) into one schema, and write them; without torch."""

import configparser
import difflib
import json
import math
import re
import runpy
import shlex
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType, NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError, ValidationInfo, field_validator

from .errors import UserError

FORMATS = ("yaml", "json", "ini", "py")
LARGEST = 250_000  # bytes, which take a second to parse
# The project of an editable install, so that commands work in any folder.
_project = Path(__file__).resolve().parents[2]
ROOT = _project if (_project / "pyproject.toml").is_file() else Path.cwd()


def locate(path: str | Path, inside: bool = False) -> Path:
    """`path` if it exists, else that path in the project; with `inside`, always in the project."""
    path = Path(path).expanduser()
    path = path if path.exists() and not inside else ROOT / path
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def script_command(name: str, *arguments: str) -> str:
    """The command that runs scripts/`name`.sh, to be pasted in the current folder."""
    return shlex.join([str(locate(f"scripts/{name}.sh", inside=True)), *arguments])


class Text(str):
    """A value of an ini file or the command line, whose type the schema decides."""


class Section(BaseModel):
    """A section of a config: immutable, with strict types and without unknown keys."""

    model_config = {"extra": "forbid", "frozen": True, "strict": True, "allow_inf_nan": False}

    @field_validator("*", mode="before")
    @classmethod
    def _read_text(cls, value: object, info: ValidationInfo) -> object:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            return value  # its own fields are validated in turn
        several = get_origin(annotation) in (Literal, Union, UnionType)
        options = get_args(annotation) if several else (annotation,)
        is_text = all(o in (str, NoneType) or isinstance(o, str) for o in options)
        if not (isinstance(value, Text) and is_text) or value.startswith('"'):
            return parse_text(value)
        return None if value == "null" and NoneType in options else str(value)


# --- reading four formats
class _YamlLoader(yaml.SafeLoader):
    """YAML 1.2's core schema: `1e-3` is a number, `no` is text. Duplicate keys are refused."""

    yaml_implicit_resolvers = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in keys:
                problem = f"duplicate key {key.value!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            keys.add(str(key.value))
        return super().construct_mapping(node, deep)


class _YamlDumper(yaml.SafeDumper):
    """Quotes text that YAML 1.1 or 1.2 would read as another type, and keeps it on one line."""

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        analysis.allow_single_quoted &= not analysis.multiline
        return analysis


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    for _class in (_YamlLoader, _YamlDumper):
        _regexp = re.compile(rf"^(?:{_pattern})$")
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", _regexp, _first)
_YamlLoader.add_constructor("tag:yaml.org,2002:int", lambda _, node: int(node.value))


def parse_text(value: object) -> Any:
    """A value with each `Text` in it parsed as YAML, or JSON if it starts with a quote."""
    if isinstance(value, dict):
        return {key: parse_text(item) for key, item in value.items()}
    if not isinstance(value, Text):
        return value
    try:
        found = json.loads(value) if value[:1] == '"' else yaml.load(value, _YamlLoader)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError):  # YAML tags
        raise ValueError("cannot be read; put text between double quotes") from None
    check_size(found)
    return found


def check_size(value: Any, depth: int = 0) -> int:
    """Count the values inside a config's value; ValueError if there are too many, or too deep."""
    if depth > 20:
        raise ValueError("is nested too deeply, or contains itself")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError("an integer is too large: it has more than 64 bits")
    count, items = 1, value.values() if isinstance(value, dict) else value
    for item in items if isinstance(value, dict | list | tuple) else ():
        count += check_size(item, depth + 1)
        if count > 100_000:  # YAML aliases can make a small file that large
            raise ValueError("has more than 100,000 values")
    return count


def _read_json(text: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"duplicate key {twice[0]!r}")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def _read_ini(text: str) -> dict[str, Any]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text, "this file")
    config: dict[str, Any] = {}
    for name in sorted(parser.sections()):  # [model] before [model.args]
        section, *path = name.split(".")
        if len(path) == 1 and path[0] in config.get(section, {}):
            raise ValueError(f"duplicate key: [{name}] is also a key of [{section}]")
        values = {key: Text(value) for key, value in parser[name].items()}
        config[section] = _with_value(config.get(section), path, values)
    return config


def _read_py(path: Path) -> dict[str, Any]:
    def lists(value: object) -> Any:
        if isinstance(value, dict):
            return {key: lists(item) for key, item in value.items()}
        return [lists(item) for item in value] if isinstance(value, list | tuple) else value

    try:
        names = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # the file may raise anything
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        line = getattr(error, "lineno", None) or [1, *lines][-1]
        raise UserError(f"{path}, line {line}: {type(error).__name__}: {error}") from error
    helpers = (ModuleType, FunctionType, type)
    return {k: lists(v) for k, v in names.items() if k[0] != "_" and not isinstance(v, helpers)}


def read(path: Path) -> dict[str, Any]:
    """The sections of a file, not yet validated; executes a `.py` file. Raises UserError."""
    if path.suffix[1:] not in FORMATS:
        should = "should be a .yaml, .json, .ini or .py file, or section.key=value"
        raise UserError(f"{path}: {should}{_similar_file(path)}")
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"has more than {LARGEST:,} bytes; is it a config?")
        text = "" if path.suffix == ".py" else path.read_text(encoding="utf-8-sig")
        if path.suffix == ".yaml":
            config = yaml.load(text, _YamlLoader)
        elif path.suffix == ".py":
            config = _read_py(path)
        else:
            config = _read_json(text) if path.suffix == ".json" else _read_ini(text)
        check_size(config)
    except OSError as error:
        hint = _similar_file(path) or "; give the path of a config file"
        raise UserError(f"{path}: {error.strerror}{hint}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{path}, line {line}: {error.problem}") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: save it as UTF-8") from error
    except RecursionError as error:
        raise UserError(f"{path}: is nested too deeply") from error
    except (LookupError, AttributeError) as error:  # from yaml's constructors
        raise UserError(f"{path}: a value does not fit its tag; remove the tag (!!)") from error
    except (yaml.YAMLError, configparser.Error, ValueError) as error:
        reason = str(error).partition("; use sys.")[0]  # Python's advice for long integers
        raise UserError(f"{path}: {reason}".replace("\n", " ")) from error
    if not isinstance(config, dict | None):
        raise UserError(f"{path}: should hold sections (model, data, ...), not a single value")
    return config or {}


def _similar_file(path: Path) -> str:
    """A hint at the file in configs/ with a similar name, to end an error message with."""
    known = {p.stem: p for p in (ROOT / "configs").glob("*.*") if p.suffix[1:] in FORMATS}
    close = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.7)
    return f"; did you mean {locate(known[close[0]])}?" if close else ""


# --- layers: files, then section.key=value
Schema = TypeVar("Schema", bound=Section)


def load(
    schema: type[Schema],
    files: Iterable[str | Path],
    overrides: Iterable[str] = (),
    base: dict[str, Any] | None = None,
) -> Schema:
    """A config from files and then overrides (`section.key=value`), each on top of those before.

    `base` comes before all files. Each layer replaces single keys of a section; a new component
    (`model.name`) drops the earlier `args`. Raises UserError with all problems, one per line.
    """
    config, origin = dict(base or {}), dict[str, str]()
    for file in files:
        for section, values in read(locate(file)).items():
            _merge(config, section, values)
            keys = values if isinstance(values, dict) else ()
            origin |= {str(section): str(file)} | {f"{section}.{key}": str(file) for key in keys}
    for override in overrides:
        name, equals, text = override.partition("=")
        section, *path = name.strip().split(".")
        if not (equals and section and path and all(path) and len(path) < 20):
            hint = "".join(f"; did you mean {key}={text}?" for key in find_keys(schema, section))
            raise UserError(f"{override!r}: an override is section.key=value{hint}")
        values = _with_value(config.get(section), path, Text(text.strip()))
        _merge(config, section, {path[0]: values[path[0]]})
        origin = {section: "command line", **origin, f"{section}.{path[0]}": "command line"}
    try:
        return schema.model_validate(config)
    except ValidationError as error:
        problems = [_problem(schema, p, origin) for p in error.errors(include_url=False)]
        raise UserError("\n".join(problems)) from error


def _merge(config: dict[str, Any], section: str, values: Any) -> None:
    old = config.get(section)
    if isinstance(old, dict) and isinstance(values, dict):
        if values.get("name", old.get("name")) != old.get("name"):
            old = {key: value for key, value in old.items() if key != "args"}
        values = {**old, **values}
    config[section] = values


def _with_value(old: object, path: list[str], value: object) -> Any:
    if not path:
        return value
    below = dict(old) if isinstance(old, dict) else {}
    return {**below, path[0]: _with_value(below.get(path[0]), path[1:], value)}


def _problem(schema: type[Section], problem: Any, origin: dict[str, str]) -> str:
    """A line for one of pydantic's errors: the source, the key, and what to do."""
    inner = ("dict", "list", "float", "[key]")  # pydantic's steps between keys
    loc = [str(p) for i, p in enumerate(problem["loc"]) if i < 2 or p not in inner]
    sections: dict[str, Any] = {key: field.annotation for key, field in schema.model_fields.items()}
    known = sections[loc[0]].model_fields if loc[0] in sections else sections
    kind, got = problem["type"], f", got {problem['input']!r:.200}"
    form = getattr(known.get(loc[-1]), "description", None) or "in another format"
    special = {
        "string_pattern_mismatch": f"should be {form}{got}",
        "missing": "missing; name a complete config (train) before a partial one such as debug",
        "model_type": f"should be a section with the keys {', '.join(known)}{got}",
        "invalid-json-value": f"should be a number, text, list or map{got}",
        "value_error": problem["msg"].removeprefix("Value error, "),
    }
    advice = special.get(kind, problem["msg"].removeprefix("Input ") + got)
    if kind == "extra_forbidden":
        elsewhere = find_keys(schema, loc[-1])
        own = f"; put arguments of {loc[0]}.name under {loc[0]}.args"
        hint = did_you_mean(loc[-1], known) + (own if "args" in known else "")
        advice = "unknown key" + (f"; did you mean {elsewhere[0]}?" if elsewhere else hint)
    source = origin.get(".".join(loc[:2]), origin.get(loc[0], "config"))
    return f"{source}: {'.'.join(loc)}: {advice}"


def find_keys(schema: type[Section], name: str) -> list[str]:
    """The dotted keys that end in `name`."""
    sections: Any = {key: field.annotation for key, field in schema.model_fields.items()}
    return [f"{key}.{name}" for key in sections if name in sections[key].model_fields]


def check_model(name: str) -> None:
    """Raise UserError if no file of `model/` defines such a model, without importing torch."""
    files = (Path(__file__).parent / "model").rglob("*.py")
    text = "\n".join(file.read_text("utf-8") for file in files if file.name != "utils.py")
    known = re.findall(r"^def ([^\W_]\w*)", text, re.MULTILINE)
    if known and not re.search(rf"\b(globals|vars|exec|setattr|{re.escape(name)})\b", text):
        raise UserError(f"model: unknown name {name!r}{did_you_mean(name, known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The most similar name, or all names, to end an error message with."""
    lower = {item.lower(): item for item in sorted(known)}
    close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {lower[close[0]]!r}?"
    return f"; there are: {', '.join(lower.values())}" if lower else "; there are none"


# --- writing four formats
def dump(config: Section, format: str, only: dict[str, Any] | None = None) -> str:
    """The text of a config file in a format; `only` limits it to the keys of that map."""
    keys = {k: set(v) if isinstance(v, dict) else True for k, v in only.items()} if only else None
    sections = config.model_dump(include=keys)
    if format == "yaml":
        return yaml.dump(sections, Dumper=_YamlDumper, sort_keys=False, allow_unicode=True)
    if format == "json":
        return json.dumps(sections, indent=2, ensure_ascii=False) + "\n"
    lines: list[str] = []
    for name, values in sections.items():
        if format == "ini":
            lines += [f"[{name}]", *(f"{key} = {_ini(value)}" for key, value in values.items()), ""]
        else:
            lines += [f"{name} = dict(", *(f"    {k}={v!r}," for k, v in values.items()), ")", ""]
    return "\n".join(lines)


def _ini(value: object) -> str:
    if isinstance(value, str):
        bare = value.isprintable() and value.strip() == value != "null" and value[:1] not in {*'"['}
        return value if bare else json.dumps(value)
    style: Any = {"default_flow_style": True, "sort_keys": False, "width": math.inf}
    return yaml.dump(value, Dumper=_YamlDumper, **style).partition("\n")[0]
