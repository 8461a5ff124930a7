"""The extra `schema`: a real validator of JSON Schema accepts a project's configs, and marks mistakes."""

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from conftest import Render, in_project
from test_bad_input import CONFIGS
from test_configs import KINDS

pytestmark = pytest.mark.slow

# Messages about files that a validator can't read either, and about mistakes that JSON Schema can't express.
NOT_SEEN = ("finite number", "is too large", "duplicate key")

READ = """if True:
    import json, sys
    from pathlib import Path
    from my_project.config import read
    from my_project.errors import UserError
    found = {}
    for path in sorted(Path(sys.argv[1]).iterdir()):
        try:
            found[path.name] = read(path)
        except UserError:
            pass
    print(json.dumps(found))
"""


def written(project: Path, folder: Path) -> jsonschema.Draft202012Validator:
    """A validator with the schema that the project's command writes."""
    in_project(project, "-m", "my_project", "schema", "--to", folder / "schema.json")
    schema = json.loads((folder / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(project: Path, folder: Path) -> dict[str, Any]:
    """The configs in a folder that the project can read, by file name."""
    found: dict[str, Any] = json.loads(in_project(project, "-c", READ, folder).stdout)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_accepts_the_configs_of_its_kind(render: Render, tmp_path: Path, kind: str) -> None:
    project = render(data_kind=kind, extras="schema")
    validator, configs = written(project, tmp_path), read(project, project / "configs")
    assert sorted(configs) == ["debug.yaml", "long.yaml", "train.yaml"]
    for name, config in configs.items():
        assert [error.message for error in validator.iter_errors(config)] == [], name
        assert (project / "configs" / name).read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    options = [o for part in validator.schema["$defs"].values() for o in part.get("properties", {}).values()]
    assert sum("description" in option for option in options) > len(options) / 2


def test_the_schema_marks_each_mistake_that_a_schema_can_see(render: Render, tmp_path: Path) -> None:
    project, cases = render(extras="schema"), tmp_path / "cases"
    validator = written(project, tmp_path)
    cases.mkdir()
    messages = {}
    for number, (name, text, message) in enumerate(CONFIGS):
        if name.endswith((".yaml", ".json")):
            path = cases / f"{number:03d}-{name}"
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            messages[path.name] = message
    marked = {name: bool([*validator.iter_errors(config)]) for name, config in read(project, cases).items()}
    assert sum(marked.values()) > 15
    for name, found in marked.items():
        assert found != any(words in messages[name] for words in NOT_SEEN), f"{messages[name]}: {found}"
