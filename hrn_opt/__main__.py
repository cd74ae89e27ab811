"""`python -m hrn_opt` is `hrn-opt`."""

import os
import sys

# How the commands are called here, for messages that name one; start.sh has said it already.
os.environ.setdefault("HRN_OPT_PROGRAM", "python -m hrn_opt")

from hrn_opt.cli import main

if __name__ == "__main__":
    sys.exit(main())
