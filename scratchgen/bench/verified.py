"""python -m scratchgen.bench.verified [FILE]: on which GPU the kernels were verified; a warning where they were not.

Exit status 0 in any case: most machines have no GPU to put it right.
"""

import sys

from scratchgen.bench.gpu.results import FILE, verdict
from scratchgen.paths import as_path

if __name__ == "__main__":
    print(verdict(as_path(sys.argv[1]) if len(sys.argv) > 1 else FILE))
