"""The template's lists of its files: who owns them (`ownership.yml`), and what moved (`moves.yml`)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from packaging.version import InvalidVersion, Version

from .git import Refusal

LISTS = Path(__file__).resolve().parents[1]


@cache
def read_list(name: str) -> dict[str, Any]:
    return yaml.safe_load((LISTS / name).read_text(encoding="utf-8")) or {}


# --- patterns ---


def regex(pattern: str) -> str:
    """The regular expression of a pattern. `*` is part of a name, `**` any number of folders; each is a group."""
    wild = {"**": "(.*)", "*": "([^/]*)"}
    return "".join(wild.get(part) or re.escape(part) for part in re.split(r"(\*\*?)", pattern))


def fill(pattern: str, groups: tuple[str, ...]) -> str:
    """A pattern with its wildcards replaced by these groups."""
    fixed = re.split(r"\*\*?", pattern)
    return fixed[0] + "".join(map("".join, zip(groups, fixed[1:], strict=True)))


# --- owners ---


@cache
def owners() -> dict[str, str]:
    """`yours` or `baseline`, by pattern."""
    return {pattern: owner for owner, reasons in read_list("ownership.yml").items() for pattern in reasons or ()}


@cache
def pattern_of(path: str) -> str | None:
    """The pattern that applies to a path: the longest match."""
    fitting = [pattern for pattern in owners() if re.fullmatch(regex(pattern), path)]
    return max(fitting, key=len) if fitting else None


def is_owned(path: str) -> bool:
    """Whether a generated file belongs to the owner once the project is made."""
    pattern = pattern_of(path)
    return pattern is not None and owners()[pattern] == "yours"


def reason(path: str) -> str:
    """The reason for the owner of a path, from ownership.yml."""
    lists = read_list("ownership.yml")
    pattern = pattern_of(path)
    return str(lists[owners()[pattern]][pattern]) if pattern else ""


# --- moves ---


@dataclass
class Move:
    """Paths of the old version, and the path in the new one with their content (None: removed)."""

    sources: list[str]
    target: str | None

    def follow(self, path: str) -> str | None:
        """The target of a source path, with its wildcards filled in; None if the path is not a source."""
        for source in self.sources if self.target else ():
            if found := re.fullmatch(regex(source), path):
                return fill(str(self.target), found.groups())
        return None


def as_release(name: Any) -> Version:
    """A version in moves.yml. YAML reads an unquoted 1.10 as the number 1.1."""
    try:
        return Version(name)
    except (TypeError, InvalidVersion):
        raise Refusal(f"moves.yml: {name!r} is not a version; write it in quotes, such as '1.10'") from None


def declared(old: Version, new: Version) -> list[Move]:
    """The moves in moves.yml of the versions after `old`, up to `new`; oldest first."""
    by_version = {as_release(name): moves for name, moves in read_list("moves.yml").items() if name != "answers"}
    wanted = sorted(version for version in by_version if old < version <= new)
    return [Move(move["from"], move.get("to")) for version in wanted for move in by_version[version] or ()]


def follow(path: str, moves: list[Move]) -> str:
    """The path of a file after all moves of a single source."""
    for move in moves:
        if len(move.sources) == 1:
            path = move.follow(path) or path
    return path


# --- answers that paths depend on ---


def answer_effects() -> dict[str, dict[str, str]]:
    """The effects of a changed answer, by question: the files that it `moves`, or those that it `keeps`."""
    return read_list("moves.yml").get("answers") or {}


def moves_by_answers(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Move]:
    """The moves that follow from changed answers."""
    paths = [effect["moves"] for effect in answer_effects().values() if "moves" in effect]
    return [Move([path.format_map(old)], path.format_map(new)) for path in paths]
