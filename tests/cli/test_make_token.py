"""hrn-opt make-token: the secret, then the line that lets it in."""

import pytest

from hrn_opt.cli import main
from hrn_opt.web.door.access import read_tokens


def test_it_prints_a_token_and_its_line(capsys):
    assert main(["make-token", "render farm"]) == 0
    printed = capsys.readouterr()
    token, line = printed.out.splitlines()
    assert read_tokens(line).name_of(token) == "render farm" and token not in line + printed.err
    assert main(["make-token", "ci"]) == 0 and token not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a:b", "a,b", "#a", " a", ""])
def test_a_name_that_would_not_work_is_refused(capsys, name):
    assert main(["make-token", name]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and "name" in printed.err
