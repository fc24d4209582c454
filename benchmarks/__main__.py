"""``python -m benchmarks [NAME ...]``: each benchmark prints one line of JSON and adds it to ``benchmarks/results``."""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import imports, memory, recalls, relays, searches, writes
from benchmarks.measure import ROOT, Figures, result, rounded, tell

RESULTS = ROOT / "benchmarks" / "results"

Options = argparse.Namespace
Benchmark = Callable[[Options], Iterator[Figures]]

BENCHMARKS: dict[str, Benchmark] = {
    "import": lambda given: imports.measure(given.engine, quick=given.quick),
    "search": lambda given: searches.measure(given.engine, quick=given.quick),
    "write": lambda given: writes.measure(given.engine, quick=given.quick),
    "memory": lambda given: memory.measure(given.engine, quick=given.quick),
    "relay": lambda given: relays.measure(given.engine, quick=given.quick, only=given.targets),
    "recall": lambda given: recalls.measure(given.engine, given.eval, given.data),
    "million": lambda given: imports.measure_growth(given.engine, quick=given.quick),
}
ASKED_FOR = ("recall", "million")
"""Those that run only when they are named."""


def main() -> None:
    """The named benchmarks have run, one after the other."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="smaller, for a look: results are not kept")
    parser.add_argument("--engine", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results files")
    parser.add_argument("--targets", help="relay: only these, with commas: aforesaid, aforesaid_bare, nginx, litellm")
    parser.add_argument("--eval", type=Path, help="recall: the evaluation program")
    parser.add_argument("--data", type=Path, help="recall: what it is to load")
    given = parser.parse_args()
    names = given.names or [name for name in BENCHMARKS if name not in ASKED_FOR]
    if "recall" in names and not (given.eval and given.data):
        parser.error("recall needs --eval and --data")
    for name in names:
        tell(f"{name} on {given.engine}")
        for figures in BENCHMARKS[name](given):
            line = json.dumps(rounded(result(name, given.engine, figures)))
            print(line, flush=True)
            if not given.quick:
                given.results.mkdir(parents=True, exist_ok=True)
                with (given.results / f"{name}.jsonl").open("a") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
