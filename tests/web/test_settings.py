"""Settings: flags before environment before defaults, and nothing that cannot be."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hrn_opt.errors import OptionInvalid
from hrn_opt.web.door.access import hash_password, hash_token
from hrn_opt.web.settings import (
    OTHER_VARIABLES,
    SECRET_VARIABLES,
    SETTINGS,
    ServingSettings,
    markdown_table,
    read_settings,
)

ROOT = Path(__file__).parents[2]


def test_defaults_are_closed_and_bounded():
    settings = read_settings([], {})
    assert settings == ServingSettings() and settings.host == "127.0.0.1" and not settings.public
    assert settings.concurrency == "auto" and settings.deadline_s == 600
    assert settings.photo_limits.max_bytes == 64_000_000 < settings.max_body_bytes
    assert settings.photo_limits.max_pixels == 80_000_000
    assert not settings.access and settings.hosts == settings.embed_in == settings.trusted_proxies == ()


def test_flags_come_before_the_environment():
    environment = {"HRN_OPT_PORT": "9000", "HRN_OPT_MOST_JOBS": "3", "HRN_OPT_MEMORY": "0.5", "HRN_OPT_KEPT_S": ""}
    settings = read_settings(["--port", "9001", "--max-upload-mb", "5", "--concurrency", "2"], environment)
    assert (settings.port, settings.most_jobs, settings.memory, settings.kept_s) == (9001, 3, 0.5, 3600)
    assert settings.most_jobs == 3 and settings.photo_limits.max_bytes == 5_000_000
    assert settings.concurrency == 2


def test_users_open_a_public_address(tmp_path):
    ada, bob = (f"{name}:{hash_password('x')}" for name in ("ada", "bob"))
    (tmp_path / "users").write_text(bob)
    environment = {"HRN_OPT_HOST": "0.0.0.0", "HRN_OPT_USERS": ada, "HRN_OPT_USERS_FILE": str(tmp_path / "users")}
    settings = read_settings([], environment)
    assert set(settings.users.hashes) == {"ada", "bob"} and "scrypt" not in repr(settings)
    with pytest.raises(OptionInvalid, match="HRN_OPT_USERS"):
        read_settings([], {"HRN_OPT_HOST": "0.0.0.0"})


def test_tokens_open_a_public_address(tmp_path):
    (tmp_path / "tokens").write_text(f"two:{hash_token('2')}")
    environment = {"HRN_OPT_TOKENS": f"one:{hash_token('1')}", "HRN_OPT_TOKENS_FILE": str(tmp_path / "tokens")}
    settings = read_settings(["--host", "0.0.0.0"], {**environment, "HRN_OPT_SECRET": "s" * 32})
    assert settings.access and [settings.tokens.name_of(token) for token in "123"] == ["one", "two", None]
    assert settings.secret == "s" * 32 and "sha256" not in repr(settings) and "sss" not in repr(settings)


@pytest.mark.parametrize("yes", ["1", "yes", "true", "on", "Yes", "TRUE"])
@pytest.mark.parametrize("no", ["0", "no", "false", "off", "", "No"])
def test_yes_and_no_are_words(yes, no):
    """HRN_OPT_PUBLIC=no once served everybody."""
    assert read_settings(["--host", "0.0.0.0"], {"HRN_OPT_PUBLIC": yes}).public
    assert read_settings(["--host", "0.0.0.0", f"--public={yes}"], {"HRN_OPT_PUBLIC": no}).public
    with pytest.raises(OptionInvalid, match="--public"):
        read_settings(["--host", "0.0.0.0"], {"HRN_OPT_PUBLIC": no})


def test_a_yes_may_stand_alone():
    assert read_settings(["--public", "--host", "0.0.0.0", "--log-json"], {}).log_json


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        *(("--port", port) for port in ("0", "99999", "-1", "80.5", "http", "nan")),
        *(("--kept-s", seconds) for seconds in ("inf", "nan", "-1", "0", "1e999", "soon")),
        *(("--deadline-s", seconds) for seconds in ("nan", "0", "1e9")),
        *(("--concurrency", count) for count in ("0", "-2", "1.5", "many", "1000")),
        *(("--host", host) for host in ("a b", "http://x", "1.2.3.4:80", "x:y", "[::", "-x")),
        ("--log-memory", "-1"),
        ("--memory", "much"),
        ("--memory", "inf"),
        ("--model", "nope"),
        ("--model", "\0"),
        ("--device", "nope"),
        ("--device", "cuda:x"),
        ("--offload-folder", __file__),
        ("--root-path", "/a/../b"),
        ("--root-path", "/a b"),
        ("--root-path", "https://x/y"),
        ("--trusted-proxies", "*"),
        ("--trusted-proxies", "10.0.0.0/8,proxy"),
        ("--hosts", "https://example.org"),
        ("--hosts", "example.org:443"),
        ("--embed-in", "example.org"),
        ("--embed-in", "https://a.org; script-src *"),
        ("--embed-in", "*"),
        ("--log-level", "loud"),
        ("--log-json", "maybe"),
        ("--public", "perhaps"),
        ("--mcp", "perhaps"),
    ],
)
def test_what_cannot_be_is_refused_by_flag_and_variable(flag, value):
    variable = f"HRN_OPT_{flag[2:].replace('-', '_').upper()}"
    for arguments, environment in (([f"{flag}={value}"], {}), ([], {variable: value})):
        with pytest.raises(OptionInvalid) as caught:
            read_settings(arguments, environment)
        message = str(caught.value)
        assert message.startswith(f"{flag} (or {variable}): ") and message.count(".") >= 1 and "\n" not in message


def test_the_tool_takes_a_photo_of_the_largest_upload_as_base64_and_nothing_where_it_is_off():
    settings = read_settings(["--mcp", "--max-upload-mb", "3"], {})
    assert 4_000_000 < settings.mcp_body_bytes < 6_000_000
    assert read_settings(["--mcp=no"], {}).mcp_body_bytes == 0


def test_everything_wrong_is_told_at_once():
    environment = {
        "HRN_OPT_PORT": "99999",
        "HRN_OPT_KEPT_S": "inf",
        "HRN_OPT_MOST_JOB": "3",
        "HRN_OPT_USERS": "ada",
        "HRN_OPT_TOKENS": "ci",
    }
    with pytest.raises(OptionInvalid) as caught:
        read_settings(["--model", "nope", "--host", "0.0.0.0"], environment)
    message = str(caught.value)
    for told in ("6 settings", "HRN_OPT_PORT", "'inf'", "'nope'", "did you mean HRN_OPT_MOST_JOBS?"):
        assert told in message
    assert "hash-password" in message and "make-token" in message
    assert "--public" not in message  # nobody knows who may, as the users cannot be read
    with pytest.raises(OptionInvalid, match=r"2 settings.*--public.*HRN_OPT_SECRET"):
        read_settings(["--host", "0.0.0.0"], {"HRN_OPT_SECRET": "short"})


def test_python_is_checked_as_flags_are():
    with pytest.raises(OptionInvalid, match=r"2 settings.*--port.*--kept-s"):
        ServingSettings(port=True, kept_s=float("nan"))
    settings = ServingSettings(host="[::1]", hosts=("Example.org", "::1"), root_path="faces/", memory=2)
    assert (settings.host, settings.hosts, settings.root_path) == ("::1", ("example.org", "::1"), "/faces")
    with pytest.raises(OptionInvalid, match="--public"):
        ServingSettings(host="::")


@pytest.mark.parametrize(
    ("host", "url"),
    [("::", "http://[::]:80"), ("[::1]", "http://[::1]:80"), ("0.0.0.0", "http://0.0.0.0:80"), ("me", "http://me:80")],
)
def test_the_url_has_brackets_where_they_belong(host, url):
    assert read_settings(["--host", host, "--port", "80", "--public"], {}).url == url


def test_lists_are_parted_by_commas():
    flags = [
        "--trusted-proxies",
        "10.0.0.1, 192.168.0.0/16,::1",
        "--embed-in",
        "https://huggingface.co/,https://*.hf.space",
    ]
    settings = read_settings(flags, {"HRN_OPT_HOSTS": "a.org,b.org"})
    assert settings.trusted_proxies == ("10.0.0.1/32", "192.168.0.0/16", "::1/128")
    assert settings.embed_in == ("https://huggingface.co", "https://*.hf.space") and settings.hosts == (
        "a.org",
        "b.org",
    )


def test_the_table_the_fields_and_the_variables_are_the_same():
    fields = {field.name for field in dataclasses.fields(ServingSettings)}
    assert {setting.name for setting in SETTINGS} == fields - {"users", "tokens", "secret"}
    assert read_settings([], dict.fromkeys((*SECRET_VARIABLES, *OTHER_VARIABLES), "")) == ServingSettings()
    given = {setting.variable: str(setting.default) for setting in SETTINGS if setting.default not in (None, ())}
    assert read_settings([], given) == ServingSettings()


def test_no_variable_of_the_program_is_refused_as_unknown():
    """Each that the code, start.sh or the tests name."""
    texts = [ROOT / "start.sh", *(ROOT / "hrn_opt").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    named = {name for path in texts for name in re.findall(r"HRN_OPT_[A-Z_]*[A-Z]", path.read_text(encoding="utf-8"))}
    read_settings([], dict.fromkeys(named, ""))


def test_the_readme_has_the_table():
    assert markdown_table() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_are_read_without_torch_and_gradio():
    """A wrong flag is told at once, not after seconds of imports."""
    code = "import sys, hrn_opt.web.settings; sys.exit(bool({'torch', 'gradio', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
