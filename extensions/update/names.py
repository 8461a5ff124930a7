"""The paths that a file of a template can become, as patterns: its name may have Jinja in it."""

import glob
import re
from collections.abc import Iterable, Mapping
from typing import Any

MARKS = {"block_start_string": "{%", "block_end_string": "%}"}
MARKS |= {"variable_start_string": "{{", "variable_end_string": "}}"}


def patterns(
    name: str, envops: Mapping[str, str], answers: Mapping[str, Any], computed: Mapping[str, str] | None = None
) -> set[str]:
    """All that a name can become: one pattern for each choice among the branches of its conditions.

    Args:
        envops: the template's marks of Jinja, where they are others than Jinja's own.
        answers: those that stand for themselves.
        computed: what the template computes in place of asking; this may have conditions too. All else that is
            filled in may be any name.
    """

    def filled(expression: str) -> set[str]:
        key = expression.strip("-+ ")
        known = "/" if key == "_copier_conf.sep" else answers.get(key)
        if isinstance(known, str):
            return {glob.escape(known)}
        if computed and key in computed:  # without itself, of which its own default may speak
            return patterns(computed[key], envops, answers, {**computed, key: ""})
        return {"*"}

    begin, end, open_, close = (re.escape(envops.get(mark, default)) for mark, default in MARKS.items())
    raw = (rf"{begin}[-+]?\s*{word}\s*[-+]?{end}" for word in ("raw", "endraw"))
    token = re.compile(rf"{'(?P<raw>.*?)'.join(raw)}|{begin}[-+]?\s*(?P<tag>\w*).*?{end}|{open_}(?P<value>.*?){close}")
    current, outer, at = {""}, list[tuple[set[str], set[str], bool]](), 0
    for found in token.finditer(name):
        current = extended(current, glob.escape(name[at : found.start()]))
        at, tag = found.end(), found["tag"]
        if tag == "if":
            outer.append((current, set(), True))
            current = {""}
        elif tag in ("elif", "else") and outer:
            before, branches, _ = outer.pop()
            outer.append((before, branches | current, tag == "elif"))
            current = {""}
        elif tag == "endif" and outer:
            before, branches, may_be_none = outer.pop()
            branches |= current | ({""} if may_be_none else set())
            current = {start + branch for start in before for branch in branches}
        elif found["raw"] is not None:
            current = extended(current, glob.escape(found["raw"]))
        else:
            current = {start + value for start in current for value in filled(found["value"] or "")}
    return {re.sub(r"(?<!\[)\*+", "*", path) for path in extended(current, glob.escape(name[at:]))}


def extended(paths: set[str], text: str) -> set[str]:
    return {path + text for path in paths}


def fitting(globs: Iterable[str]) -> re.Pattern[str]:
    """An expression for all paths that one of these patterns matches."""
    part = re.compile(r"\[([*?[])\]|(\*)|([^*[]+)")
    whole = (part.sub(lambda found: "[^/]*" if found[2] else re.escape(found[1] or found[3]), each) for each in globs)
    return re.compile("|".join(whole))
