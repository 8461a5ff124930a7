"""A project's configs come from one commented source, in the format that was chosen."""

import json
import re
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, Render, in_project, of_the_day

FORMATS = ["yaml", "json", "ini", "py"]
KINDS = sorted(path.name for path in (ROOT / "template" / "kinds").iterdir())
DEFAULT = "image_classification"
NAMES = ["train", "debug", "long"]


def resolved(project: Path, *files: str) -> object:
    done = in_project(project, "-m", "my_project", "config", *files, "--to", "json")
    return json.loads(done.stdout)


each_kind = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind != DEFAULT)) for kind in KINDS],
)


@pytest.mark.parametrize("kind", [DEFAULT, *of_the_day([k for k in KINDS if k != DEFAULT], 3, pytest.mark.slow)])
def test_all_formats_give_the_same_config(render: Render, kind: str) -> None:
    code = "import sys; from my_project.cli import main; "
    code += "[main(['config', *files.split(), '--to', 'json']) for files in sys.argv[1:]]"
    said = set()
    for ending in FORMATS:
        project = render(data_kind=kind, config_format=ending)
        assert {path.name for path in (project / "configs").iterdir()} == {f"{name}.{ending}" for name in NAMES}
        files = [f"configs/train.{ending} configs/{name}.{ending}" for name in NAMES]
        said.add(in_project(project, "-c", code, *files).stdout)
    assert len(said) == 1
    assert said.pop().count('"optimizer"') == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
@each_kind
def test_comments_are_kept_in_formats_that_have_them(render: Render, kind: str, name: str) -> None:
    found = []
    for ending in ("yaml", "ini", "py"):
        text = (render(data_kind=kind, config_format=ending) / "configs" / f"{name}.{ending}").read_text()
        text = re.sub(r"(configs/\w+)\.\w+", r"\1", text)
        found.append(re.findall(r"^\s*(#.*)$", text, re.MULTILINE))
    assert found[0]
    assert found[0] == found[1] == found[2]


@each_kind
def test_every_option_is_in_train_with_a_comment(render: Render, kind: str) -> None:
    project = render(data_kind=kind)
    written = yaml.safe_load((project / "configs" / "train.yaml").read_text())
    config = resolved(project, "configs/train.yaml")
    assert isinstance(config, dict)
    assert {name: list(section) for name, section in written.items()} == {
        name: list(section) for name, section in config.items()
    }


@each_kind
@pytest.mark.parametrize("name", NAMES)
def test_the_source_uses_only_what_the_converter_supports(kind: str, name: str) -> None:
    source = (ROOT / "template" / "kinds" / kind / f"{name}.yaml").read_text()
    for line in source.splitlines():
        assert re.fullmatch(r"(  )?#.*|\w+:|  \w+: \S.*|", line), line
        assert line.startswith(("#", "  #")) or " #" not in line, line
