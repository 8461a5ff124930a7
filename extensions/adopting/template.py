"""The clone of the template: its versions, and the source of later ones."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from update.git import Refusal, attempt, git


@dataclass(frozen=True)
class Release:
    """A version of the template: its clone, the version's name and commit, and whether the name is a tag."""

    clone: Path
    name: str
    commit: str
    is_tag: bool


def find_version(clone: Path, name: str | None) -> Release:
    """Find a version, by default the newest release. Raises Refusal if there is none."""
    status, top, _ = attempt("rev-parse", "--show-toplevel", cwd=clone)
    if status or Path(top.removesuffix("\n")).resolve() != clone:
        raise Refusal(f"{clone} is not a clone of the template: git clone it and run adopt.py from the clone")
    if name is None:
        releases = [tag for tag in git("tag", "--list", cwd=clone).split() if re.fullmatch(r"v\d+\.\d+\.\d+", tag)]
        if not releases:
            raise Refusal(
                f"{clone} has no release tags: run `make tags` there (in a shallow clone, git fetch --unshallow first)"
            )
        name = max(releases, key=lambda tag: [int(part) for part in tag[1:].split(".")])
    for ref in (f"refs/tags/{name}", name):
        status, commit, _ = attempt("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", cwd=clone)
        if not status:
            return Release(clone, name, commit.strip(), ref != name)
    raise Refusal(f"--vcs-ref {name}: unknown version; `git -C {clone} tag` lists them")


def source_of(clone: Path) -> str:
    """The source of later updates, in Copier's form: the clone's origin, or else the clone."""
    url = attempt("config", "--get", "remote.origin.url", cwd=clone)[1].removesuffix("\n") or str(clone)
    local = clone / Path(url).expanduser()
    if local.exists():
        url = str(local.resolve())
        if local.is_file() or "false" in attempt("rev-parse", "--is-bare-repository", cwd=local)[1]:
            return url
    url = re.sub(r"^(https?://)[^/@]*@", r"\1", url)  # a password must not get into the project's history
    known = ("git@", "git://", "git+", "gh:", "gl:", "https://github.com/", "https://gitlab.com/")
    return url if url.endswith(".git") or url.startswith(known) else f"git+{url}"


def copy(files: Path, folder: Path, **options: Any) -> None:
    """Let Copier ask and render a version. Raises Refusal, with its message, for an invalid answer."""
    import copier  # here, so that --help and refusals are fast

    try:
        copier.run_copy(str(files), folder, quiet=True, **options)
    except KeyboardInterrupt:
        raise
    except Exception as error:
        raise Refusal(str(error)) from error


def lacks_tag(source: str, version: Release) -> bool:
    """Whether the source of updates is known to lack the tag of the version that they start from."""
    words = ["ls-remote", "--exit-code", source.removeprefix("git+"), f"refs/tags/{version.name}"]
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=5"}
    return version.is_tag and attempt(*words, cwd=version.clone, env=quiet)[0] == 2
