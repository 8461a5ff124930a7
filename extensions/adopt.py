# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.18.2"]
# ///
"""Let a project that was not made from this template join it, so that `copier update` works on it from then on.

The template is rendered with answers guessed from the project, and merged on a new branch as a history of its own: a
file that both have becomes a conflict that holds both versions. Nothing else of the owner's changes, nor their branch.
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
It guesses answers from the project and asks the template's questions with them, renders the template, makes a new
branch, and merges the render there. Your own branch stays as it is, and how to go back to it is printed. At the end it
tries out whether a later update would be refused.

exit status:
  0  merged
  1  merged, but something is left to do (conflicts, the commit, a trial that failed): it is printed
  2  nothing has changed: why is printed
"""


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
    parser.add_argument("--smoke", action="store_true", help="run a step of the adopted project's training at the end")
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
