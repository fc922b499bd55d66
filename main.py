"""Trains and evaluates deep hashing networks; an installed `hybridhash train` does the same.

python main.py --config=configs/digits.py --workdir=runs/digits
python main.py --help
"""

import sys

from input_pipeline import messages, signals

if __name__ == "__main__":
    messages.ensure_utf8()
    signals.listen()
    from hybridhash_jax import command_line  # after it: Ctrl-C counts from the first line on

    command_line.main(sys.argv[1:], "python main.py")
