"""python -m scratchgen.bench.verified FILE: on which GPU the kernels were verified, as the file of results says; a
warning where they were not.

Exit status 0 in any case: most machines have no GPU to put it right. 2 without the name of a file.
"""

import sys

from scratchgen.bench.results import verdict
from scratchgen.paths import as_path

if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python -m scratchgen.bench.verified FILE, the file that bench --record writes", file=sys.stderr)
        sys.exit(2)
    print(verdict(as_path(sys.argv[1])))
