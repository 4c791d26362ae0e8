"""Train the runs of this bundle. It needs Python 3.11 or newer, torch and numpy, and no network.

    python run.py --check                     are all files as they were packed? versions, disk, the plan and its cost
    python run.py                             train everything that is not done; after a kill, the same again
    python run.py --arm 'ascending.*' --seed 0
    CUDA_VISIBLE_DEVICES=0 python run.py --part 1/4      one of four shares of the work, on any machine

Results are in the folder results/; bring the bundle's folder back with them, and `gradatim experiment collect` it.
"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

if __name__ == "__main__":
    sys.dont_write_bytecode = True  # the folder of code stays as it was packed
    sys.path[:0] = [str(FOLDER / "code" / "stand_ins"), str(FOLDER / "code")]
    from pipelines.experiments.bundle_runtime.runner import main

    sys.exit(main(FOLDER, sys.argv[1:]))
