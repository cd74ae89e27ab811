"""Every error carries what its sentence in another language is filled with."""

import ast
import pickle
from pathlib import Path

import pytest

from hrn_opt import errors
from hrn_opt.errors import FaceTooSmall, HrnOptError

PACKAGE = Path(errors.__file__).parent
CLASSES = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def constructions():
    """(place, class, names of the values) of every error made in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES:
                names = {keyword.arg for keyword in node.keywords}
                yield f"{path.name}:{node.lineno}", CLASSES[node.func.id], names


@pytest.mark.parametrize(("place", "kind", "names"), list(constructions()), ids=lambda value: str(value)[:40])
def test_every_error_is_made_with_its_values(place, kind, names):
    assert names == set(kind.value_names), place


def test_values_and_message_survive_a_process_border():
    error = pickle.loads(pickle.dumps(FaceTooSmall("Too small.", width_px=13, least_px=20)))
    assert str(error) == "Too small." and error.values == {"width_px": 13, "least_px": 20}


def test_all_are_of_one_family():
    assert all(issubclass(kind, HrnOptError) for kind in CLASSES.values())
