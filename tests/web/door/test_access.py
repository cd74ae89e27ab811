"""Passwords are kept as hashes that only the right one fits, and no door stands open by accident."""

import io

import pytest

from hrn_opt.cli import main
from hrn_opt.errors import OptionInvalid
from hrn_opt.web.door import access
from hrn_opt.web.door.access import (
    Access,
    check_address,
    hash_password,
    hash_token,
    is_loopback,
    make_token,
    read_tokens,
    read_tokens_file,
    read_users,
    read_users_file,
)


@pytest.fixture(scope="module")
def ada():
    return hash_password("correct horse")


def test_only_the_right_password_fits(ada):
    users = read_users(f"ada:{ada}")
    assert users and users.allows("ada", "correct horse")
    assert not any(users.allows(*pair) for pair in [("ada", "Correct horse"), ("ada", ""), ("bob", "correct horse")])
    assert "horse" not in ada and hash_password("correct horse") != ada


def test_a_name_that_does_not_exist_takes_as_long(ada, monkeypatch):
    """As many hashes of as high a cost: those take all the time."""
    users, hashing, costs = read_users(f"ada:{ada}"), access._scrypt, []

    def counted(password, salt, *cost):
        costs.append(cost)
        return hashing(password, salt, *cost)

    monkeypatch.setattr(access, "_scrypt", counted)
    assert not users.allows("ada", "wrong") and not users.allows("bob", "wrong")
    of_ada, of_bob = costs
    assert of_bob == of_ada


def test_users_come_by_lines_commas_and_files(ada, tmp_path):
    assert set(read_users(f"# staff\nada:{ada}\n\nbob:{ada},eve:{ada}").hashes) == {"ada", "bob", "eve"}
    (tmp_path / "users").write_text(f"ada:{ada}\n")
    assert read_users_file(tmp_path / "users").allows("ada", "correct horse")
    (tmp_path / "users").write_text("# nobody yet\n")
    for path in (tmp_path / "users", tmp_path / "missing"):
        with pytest.raises(OptionInvalid, match="users"):
            read_users_file(path)
    assert not read_users("")


@pytest.mark.parametrize(
    "line",
    [
        "ada",
        "ada:secret",
        ":x",
        "ada:scrypt.15.8.1.AAAA.BBBB",
        f"ada:scrypt.40.8.1.{'A' * 22}.{'A' * 43}",
        "ada:md5.a.b",
    ],
)
def test_a_line_that_is_no_user_is_refused_without_its_secret(line):
    with pytest.raises(OptionInvalid, match="hash-password") as caught:
        read_users(line)
    assert "secret" not in str(caught.value)


def test_the_same_name_twice_is_refused(ada):
    with pytest.raises(OptionInvalid, match="twice"):
        read_users(f"ada:{ada},ada:{ada}")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_this_machines_own_addresses_need_no_users(host):
    assert is_loopback(host)
    check_address(host, is_closed=False, public=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.example.org"])
def test_other_addresses_need_users_or_to_be_told(host):
    with pytest.raises(OptionInvalid, match="--public"):
        check_address(host, is_closed=False, public=False)
    check_address(host, is_closed=False, public=True)
    check_address(host, is_closed=True, public=False)


def test_a_users_mark_changes_with_the_password(ada):
    users, changed = read_users(f"ada:{ada}"), read_users(f"ada:{hash_password('correct horse')}")
    assert users.mark_of("ada") == users.mark_of("ada") != changed.mark_of("ada")
    assert users.mark_of("bob") == "" and users.mark_of("ada") not in ada


def test_a_token_names_its_program():
    token, other = make_token(), make_token()
    tokens = read_tokens(f"ci:{hash_token(other)}\nrender farm:{hash_token(token)}")
    assert tokens and tokens.name_of(token) == "render farm" and tokens.name_of(other) == "ci"
    assert not any(map(tokens.name_of, ("", token[:-1], token.swapcase(), hash_token(token), "\udcff")))
    assert len(token) >= 43 and token not in hash_token(token)  # 256 bits


def test_every_token_is_compared_whole(monkeypatch):
    """Else the time would tell which digest begins as the given one does."""
    compared = []
    monkeypatch.setattr(access.hmac, "compare_digest", lambda *pair: compared.append(pair) or False)
    tokens = read_tokens(",".join(f"{name}:{hash_token(name)}" for name in "abc"))
    assert tokens.name_of("b") is None and len(compared) == 3


def test_tokens_come_from_files(tmp_path):
    (tmp_path / "tokens").write_text(f"# programs\nci:{hash_token('x')}\n")
    assert read_tokens_file(tmp_path / "tokens").name_of("x") == "ci"
    (tmp_path / "tokens").write_text("")
    for path in (tmp_path / "tokens", tmp_path / "missing"):
        with pytest.raises(OptionInvalid, match="tokens"):
            read_tokens_file(path)


@pytest.mark.parametrize("line", ["ci", ":sha256.x", "ci:sha256.AB", "ci:md5.x", f"ci:{'a' * 64}"])
def test_a_line_that_is_no_token_is_refused(line):
    with pytest.raises(OptionInvalid, match="make-token"):
        read_tokens(line)
    with pytest.raises(OptionInvalid, match="twice"):
        read_tokens(f"ci:{hash_token('x')},ci:{hash_token('y')}")


def test_access_is_empty_without_users_and_tokens(ada):
    assert not Access() and Access(read_users(f"ada:{ada}")) and Access(tokens=read_tokens(f"ci:{hash_token('x')}"))


def test_the_command_prints_a_users_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert main(["hash-password", "ada"]) == 0
    assert read_users(capsys.readouterr().out).allows("ada", "correct horse")


@pytest.mark.parametrize(("name", "typed"), [("ada", ""), ("a:b", "x"), ("a,b", "x"), ("#a", "x")])
def test_the_command_refuses_what_would_not_work(monkeypatch, capsys, name, typed):
    monkeypatch.setattr("sys.stdin", io.StringIO(typed + "\n"))
    assert main(["hash-password", name]) == 2
    assert capsys.readouterr().out == ""
