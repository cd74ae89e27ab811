"""The page: `python app.py` is `hrn-opt serve`."""

import sys

from hrn_opt.cli import main
from hrn_opt.cli.termination import end_on_sigterm

if __name__ == "__main__":
    end_on_sigterm()  # as `main` does for the program's own arguments
    sys.exit(main(["serve", *sys.argv[1:]]))
