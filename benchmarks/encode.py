"""Images a second, MFU, memory and compile time of encoding, if wanted beside PyTorch.

python -m benchmarks.encode --torch --out=benchmarks/results/encode_cpu.json
"""

from benchmarks.measure import run_and_exit
from benchmarks.network_speed import make_parser
from benchmarks.train_step import run


def main() -> None:
    run(make_parser(__doc__).parse_args(), ("encode",))


if __name__ == "__main__":
    run_and_exit(main)
