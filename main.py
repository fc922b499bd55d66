"""Trains and evaluates deep hashing networks; an installed `hybridhash train` does the same.

python main.py --config=configs/digits.py --workdir=runs/digits
python main.py --help
"""

import sys

from hybridhash_jax import command_line

if __name__ == "__main__":
    command_line.main(sys.argv[1:], "python main.py")
