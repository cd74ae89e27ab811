"""Settings: flags before environment before defaults, and nothing that cannot be."""

import pytest

from hrn_opt.errors import OptionInvalid
from hrn_opt.web.access import hash_password
from hrn_opt.web.settings import ServingSettings, read_settings


def test_defaults_are_closed_and_bounded():
    settings = read_settings([], {})
    assert settings == ServingSettings() and settings.host == "127.0.0.1" and not settings.public
    assert settings.worker_limits.concurrency == 1 and settings.worker_limits.deadline_s == 600
    assert settings.photo_limits.max_bytes == 64_000_000 < settings.max_body_bytes
    assert settings.photo_limits.max_pixels == 80_000_000


def test_flags_come_before_the_environment():
    environment = {"HRN_OPT_PORT": "9000", "HRN_OPT_MOST_JOBS": "3", "HRN_OPT_MEMORY": "0.5"}
    settings = read_settings(["--port", "9001", "--max-upload-mb", "5"], environment)
    assert (settings.port, settings.most_jobs, settings.memory) == (9001, 3, 0.5)
    assert settings.worker_limits.most_jobs == 3 and settings.photo_limits.max_bytes == 5_000_000


def test_users_open_a_public_address(tmp_path):
    ada, bob = (f"{name}:{hash_password('x')}" for name in ("ada", "bob"))
    (tmp_path / "users").write_text(bob)
    environment = {"HRN_OPT_HOST": "0.0.0.0", "HRN_OPT_USERS": ada, "HRN_OPT_USERS_FILE": str(tmp_path / "users")}
    settings = read_settings([], environment)
    assert set(settings.users.hashes) == {"ada", "bob"} and "scrypt" not in repr(settings)
    with pytest.raises(OptionInvalid, match="HRN_OPT_USERS"):
        read_settings([], {"HRN_OPT_HOST": "0.0.0.0"})
    assert read_settings([], {"HRN_OPT_HOST": "0.0.0.0", "HRN_OPT_PUBLIC": "1"}).public
    with pytest.raises(OptionInvalid):
        read_settings([], {"HRN_OPT_HOST": "0.0.0.0", "HRN_OPT_PUBLIC": "0"})


@pytest.mark.parametrize(
    "flags", [["--concurrency", "0"], ["--kept-s", "-1"], ["--log-memory", "-1"], ["--memory", "much"]]
)
def test_what_cannot_be_is_refused(flags):
    with pytest.raises(OptionInvalid, match=flags[0].strip("-").replace("-", "_")):
        read_settings(flags, {})
