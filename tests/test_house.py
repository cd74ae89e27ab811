"""The house rules that a machine can check: how long files and functions are, and how docstrings name their fields."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("hrn_opt", "benchmarks", "testing", "tests", "tools")
FILES = sorted([ROOT / "app.py", *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))])
LONGEST_FILE, LONGEST_FUNCTION = 350, 50
TWO_FIELDS_IN_A_LINE = re.compile(r"\S   [A-Za-z_]\w*(, \w+)*: ")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_and_so_are_its_functions(path):
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno < LONGEST_FUNCTION, node.name
        if isinstance(node, DOCUMENTED) and (docstring := ast.get_docstring(node)):
            assert not TWO_FIELDS_IN_A_LINE.search(docstring), docstring
