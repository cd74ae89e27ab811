"""The page: `python app.py` is `hrn-opt serve`."""

import sys

from hrn_opt.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
