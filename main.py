"""Trains and evaluates deep hashing networks; an installed `hybridhash train` does the same.

python main.py --config=configs/digits.py --workdir=runs/digits
python main.py --help
"""

import sys

from input_pipeline import signals, utf8

if __name__ == "__main__":
    utf8.ensure()
    signals.listen()
    from hybridhash_jax import command_line  # after it: Ctrl-C counts from the first line on

    command_line.main(sys.argv[1:], "python main.py")
