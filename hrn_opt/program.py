"""How this program is called where it runs, for messages that name a command of it or what installs a package."""

import os

_START = "./start.sh"
# start.sh and `python -m hrn_opt` set it to what they are called by.
PROGRAM = os.environ.get("HRN_OPT_PROGRAM", "hrn-opt")
FETCH = f"{PROGRAM} fetch"


def install_command(extra: str = "") -> str:
    """What brings the packages of an extra of pyproject.toml; without one, those that are always needed."""
    if PROGRAM == _START:  # it installs what is missing before it runs a command
        return _START
    return f"pip install 'hrn-opt[{extra}]'" if extra else "pip install hrn-opt"
