"""python -m scratchgen.bench.verified [FILE]: on which GPU the kernels were verified; a warning where they were not.

Exit status 0 in any case: most machines have no GPU to put it right.
"""

import sys
from pathlib import Path

from scratchgen.bench.gpu.results import FILE, verdict

if __name__ == "__main__":
    print(verdict(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE))
