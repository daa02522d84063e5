"""Run every case of ONNX's test-suite and write the table of docs/onnx.md: passed, or not supported.

    python scripts/onnx_table.py

Takes ten seconds. Leaves with 1 if a case neither passes nor is refused by name.
"""

from __future__ import annotations

import sys
import unittest
from collections import Counter, defaultdict

import onnx
from checkout import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from onnx_suite import all_cases, runner

from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_operators import supported_operators

BEGIN, END = "<!-- begin: scripts/onnx_table.py -->", "<!-- end -->"


def main() -> None:
    results = dict(run_all())
    cases = list(all_cases())
    for case in cases:
        if results[case.name] not in ("passed", "not supported"):
            print(f"{case.name}: {results[case.name]}")
    page = ROOT / "docs" / "onnx.md"
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, _, tail = rest.partition(END)
    page.write_text(f"{head}{BEGIN}\n{table(cases, results)}{END}{tail}", encoding="utf-8", newline="\n")
    sys.exit(not set(results.values()) <= {"passed", "not supported"})


def run_all():
    """Every case for the CPU, by the official runner: its name and what came of it."""
    suite = runner(__name__)
    for kind, items in suite._test_items.items():  # noqa: SLF001 (there is no public way)
        if kind == "Real":  # would fetch models from the network
            continue
        for name, item in items.items():
            if name.endswith("_cpu"):
                yield name.removesuffix("_cpu"), outcome_of(item.func)


def outcome_of(test) -> str:
    try:
        test(unittest.TestCase())
    except unittest.SkipTest:  # the runner asks the backend first whether it takes a model
        return "not supported"
    except CheckpointError as error:
        return "not supported" if "support" in str(error) else f"failed: {error}"
    except Exception as error:  # an assertion, or a fault of ours
        return f"failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "passed"


def table(cases, results) -> str:
    """What passes by kind of case; then each operator of the node cases."""
    core = [case for case in cases if case.in_core]
    lines = [f"onnx {onnx.__version__}, {len(supported_operators())} operators:", ""]
    lines += ["| cases | passed | not supported |", "|---|---|---|"]
    groups = {"the core suite, of all kinds": core}
    for case in cases:
        groups.setdefault(case.kind, []).append(case)
    for name, group in groups.items():
        counts = Counter(results[case.name] for case in group)
        lines.append(f"| {name} | {counts['passed']:,} | {counts['not supported']:,} |")
    by_operator: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        if case.kind == "node":
            # what a case is about is its only node, or the first of an expanded function's
            by_operator[about(case)][results[case.name]] += 1
    lines += [
        "",
        "Every node case, by operator:",
        "",
        "| operator | passed | not supported |",
        "|---|---|---|",
    ]
    for name, counts in sorted(by_operator.items()):
        lines.append(f"| {name} | {counts['passed'] or ''} | {counts['not supported'] or ''} |")
    return "\n".join(lines) + "\n"


def about(case) -> str:
    if "_expanded" in case.name:
        return "functions, expanded into other operators"
    return case.operators[0] if len(set(case.operators)) == 1 else "graphs of several operators"


if __name__ == "__main__":
    main()
