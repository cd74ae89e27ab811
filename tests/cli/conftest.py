"""What tests of the command line share."""

import pytest

from hrn_opt.cli.make import main
from tests.cli.stand_in import FakeModel


@pytest.fixture
def model():
    return FakeModel()


@pytest.fixture
def run(model, tmp_path, capsys):
    """Runs the command line with --out tmp_path/out; answers (exit code, stdout, stderr)."""

    def call(*arguments):
        try:
            code = main([*map(str, arguments), "--out", str(tmp_path / "out")], load=lambda name, **options: model)
        except SystemExit as stopped:
            code = stopped.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return call
