"""`python -m bench [name ...] [--strict] [--list]`: figures as JSON lines on stdout, a table on stderr."""

from __future__ import annotations

import argparse
import sys

from bench.harness import benchmarks, run
from poolwright.poco.errors import PoolwrightError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure against the floors.")
    parser.add_argument("names", nargs="*", metavar="name", help="benchmarks to run; all when none is given")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a goal is missed")
    parser.add_argument("--list", action="store_true", help="print the names and end")
    options = parser.parse_args()
    known = benchmarks()
    if options.list:
        print("\n".join(known))
        return 0
    unknown = [name for name in options.names if name not in known]
    if unknown:
        print(f"no benchmark {unknown[0]!r}; expected one of: {', '.join(known)}", file=sys.stderr)
        return 2
    try:
        all_met = run([known[name] for name in options.names or known], sys.stdout, sys.stderr)
    except PoolwrightError as problem:
        print(problem, file=sys.stderr)
        return problem.exit_code
    return 1 if options.strict and not all_met else 0


if __name__ == "__main__":
    sys.exit(main())
