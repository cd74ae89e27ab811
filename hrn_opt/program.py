"""How this program is called where it runs, for messages that name one of its commands."""

import os

# start.sh and `python -m hrn_opt` set it to what they are called by.
PROGRAM = os.environ.get("HRN_OPT_PROGRAM", "hrn-opt")
FETCH = f"{PROGRAM} fetch"
