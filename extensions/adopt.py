# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.18.2"]
# ///
"""Adopt an existing project into this template, so that `copier update` works on it from then on.

The template is rendered with answers guessed from the project and merged into a new branch as an unrelated history. A
file that exists on both sides becomes a merge conflict. Nothing else changes, and the current branch stays as it is.
"""

import argparse
import io
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from adopting.template import find_version
from update.git import Refusal

HELP = """\
The command guesses answers from the project, asks the template's questions with them as defaults, renders the template
and merges it into a new branch. Your current branch stays as it is; the commands that go back to it are printed. At the
end, a trial run checks whether a later update would be refused.

exit status:
  0  merged
  1  merged, but something is left to do (conflicts, the commit, a failed check): it is printed
  2  nothing has changed: the reason is printed
"""


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may be undecodable
    parser = argparse.ArgumentParser(
        prog="python3 extensions/adopt.py",
        description="Adopt an existing project into this template, so that `copier update` works on it.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("project", metavar="PROJECT", help="its folder; everything in it must be committed")
    parser.add_argument("--defaults", action="store_true", help="ask nothing, use the guesses")
    parser.add_argument("-d", "--data", metavar="KEY=VALUE", action="append", default=[], help="an answer; repeatable")
    parser.add_argument("--vcs-ref", metavar="REF", help="the template's version (default: the newest release)")
    parser.add_argument(
        "--branch", metavar="NAME", default="copier-torch", help="the new branch (default: copier-torch)"
    )
    parser.add_argument("--smoke", action="store_true", help="run one training step in the adopted project at the end")
    options = parser.parse_args(arguments)
    try:
        if not find_spec("copier"):
            command = "install it (python3 -m pip install copier), or use `uv run` or `pipx run` in place of `python3`"
            raise Refusal(f"{sys.executable} has no Copier: {command}")
        if not options.defaults and not sys.stdin.isatty():
            raise Refusal("there is no terminal to ask questions in: add --defaults")
        if variables := sorted({"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"} & set(os.environ)):
            raise Refusal(f"the environment names a git repository: unset {' '.join(variables)}")
        version = find_version(Path(__file__).resolve().parents[1], options.vcs_ref)
        from adopting.command import adopt  # needs Copier's own packages

        folder = Path(options.project).resolve()
        return adopt(folder, options.branch, version, options.data, options.defaults, options.smoke)
    except Refusal as why:
        print(f"Not adopted: {why}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nStopped; nothing has changed.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
