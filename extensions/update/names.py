"""The paths that a template file can become, as patterns: its name may contain Jinja."""

import glob
import re
from collections.abc import Iterable, Mapping
from typing import Any

DELIMITERS = {"block_start_string": "{%", "block_end_string": "%}"}
DELIMITERS |= {"variable_start_string": "{{", "variable_end_string": "}}"}


def patterns(
    name: str, envops: Mapping[str, str], answers: Mapping[str, Any], computed: Mapping[str, str] | None = None
) -> set[str]:
    """One pattern per path that a name can become, for every combination of its conditions.

    Args:
        envops: the template's Jinja delimiters, if they differ from Jinja's own.
        answers: known answers, inserted as they are.
        computed: defaults of questions that are never asked, which may have conditions too. Any other expression
            becomes `*`.
    """

    def values(expression: str) -> set[str]:
        key = expression.strip("-+ ")
        known = "/" if key == "_copier_conf.sep" else answers.get(key)
        if isinstance(known, str):
            return {glob.escape(known)}
        if computed and key in computed:  # without itself, which its own default may name
            return patterns(computed[key], envops, answers, {**computed, key: ""})
        return {"*"}

    begin, end, open_, close = (re.escape(envops.get(mark, default)) for mark, default in DELIMITERS.items())
    raw = (rf"{begin}[-+]?\s*{word}\s*[-+]?{end}" for word in ("raw", "endraw"))
    token = re.compile(rf"{'(?P<raw>.*?)'.join(raw)}|{begin}[-+]?\s*(?P<tag>\w*).*?{end}|{open_}(?P<value>.*?){close}")
    current, outer, at = {""}, list[tuple[set[str], set[str], bool]](), 0
    for found in token.finditer(name):
        current = append_to_all(current, glob.escape(name[at : found.start()]))
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
            current = append_to_all(current, glob.escape(found["raw"]))
        else:
            current = {start + value for start in current for value in values(found["value"] or "")}
    return {re.sub(r"(?<!\[)\*+", "*", path) for path in append_to_all(current, glob.escape(name[at:]))}


def append_to_all(paths: set[str], text: str) -> set[str]:
    return {path + text for path in paths}


def any_of(globs: Iterable[str]) -> re.Pattern[str]:
    """A regular expression that matches what any of these patterns matches."""
    part = re.compile(r"\[([*?[])\]|(\*)|([^*[]+)")
    whole = (part.sub(lambda found: "[^/]*" if found[2] else re.escape(found[1] or found[3]), each) for each in globs)
    return re.compile("|".join(whole))
