# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.18.2"]
# ///
"""Update this project from its template; preview or undo an update, or explain a file.

    python3 scripts/update.py                  # update to the newest version
    python3 scripts/update.py --preview        # show what would change
    python3 scripts/update.py --undo           # undo the last update
    python3 scripts/update.py --migrate        # apply changes to your files that a report offered
    python3 scripts/update.py --help           # show all options

The template's own program does the work; it is fetched into .git/copier-update. It needs Copier,
from this Python, or from uv, pipx or an installed `copier`.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ANSWERS = ".copier-answers.yml"


def with_copier() -> list[str]:
    """The command that runs this file with a Python that has Copier."""
    if find_spec("copier"):
        return [sys.executable]
    if "COPIER_UPDATE" not in os.environ:  # else these were tried already
        for tool, command in (("uv", ["run", "--quiet", "--script"]), ("pipx", ["run"])):
            if program := shutil.which(tool):
                return [program, *command]
        if python := python_of(shutil.which("copier")):
            return [python]
    sys.exit("Copier: not found; install uv or pipx, or run `python3 -m pip install copier`")


def python_of(program: str | None) -> str | None:
    """The path of the Python that runs a script, from its first or second line."""
    head = Path(program).read_bytes()[:1000].decode(errors="replace") if program else ""
    found = re.search(r"""^(?:#!|'''exec' "?)(/[^"\n]*python[\d.]*)(?="?\s)""", head, re.MULTILINE)
    return found[1] if found and Path(found[1]).is_file() else None


def git(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """The output of a git command; exits with git's message if it fails."""
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()


def source() -> str:
    """The template's address, for git."""
    import yaml

    try:
        recorded = yaml.safe_load((ROOT / ANSWERS).read_text(encoding="utf-8"))["_src_path"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        sys.exit(f"{ANSWERS}: _src_path is missing ({error}); restore the line")
    url = re.sub(r"^git\+", "", str(recorded))
    for short, whole in (("gh:", "https://github.com/"), ("gl:", "https://gitlab.com/")):
        url = re.sub(f"^{short}(.+?)(\\.git)?$", rf"{whole}\1.git", url)
    # A relative path starts where `copier copy` was run: usually the folder above.
    places = (place / Path(url).expanduser() for place in (ROOT.parent, ROOT, Path.cwd()))
    return str(next((place for place in places if (place / "copier.yml").exists()), url))


def fetch(clone: Path, wanted: str | None) -> None:
    """Clone the template; check out its newest release, or `wanted` if that is no release."""
    from packaging.version import Version

    if not clone.exists():
        clone.parent.mkdir(exist_ok=True)
        partial = clone.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        git("clone", "--quiet", "--no-checkout", source(), partial)
        partial.rename(clone)
    refs = "+refs/heads/*:refs/heads/*", "+refs/heads/*:refs/remotes/origin/*"
    git("fetch", "--quiet", "--force", "--tags", "--update-head-ok", source(), *refs, cwd=clone)
    tags = git("tag", "--list", cwd=clone).split()
    final = re.compile(r"v?\d+(\.\d+)*(\.post\d+)?")  # no pre-release
    releases = {Version(tag): tag for tag in tags if final.fullmatch(tag)}
    if not wanted or wanted in releases.values():
        wanted = releases[max(releases)] if releases else "origin/HEAD"
    git("checkout", "--quiet", "--force", wanted, "--", cwd=clone)


def main() -> int:
    python, arguments = with_copier(), sys.argv[1:]
    if python != [sys.executable]:
        env = os.environ | {"COPIER_UPDATE": "1"}
        return subprocess.run([*python, __file__, *arguments], env=env).returncode
    clone = Path(git("rev-parse", "--absolute-git-dir"), "copier-update", "template")
    if "--undo" not in arguments or not clone.exists():
        named = re.search("^--to[=\n](.+)", "\n".join(arguments), flags=re.MULTILINE)
        fetch(clone, named[1] if named else None)
    program = clone / "extensions" / "update"
    if not program.is_dir():
        sys.exit("this version of the template has no update command: use `copier update --trust`")
    return subprocess.run([sys.executable, program, ROOT, *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main())
