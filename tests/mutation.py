"""Change a module a little and see whether its tests notice: ``tests/mutation.py [MODULE ...]``.

The changes are those of Cosmic Ray: another operator, comparison or number, a negated condition, a
loop that does not run, a decorator that is gone. Of each module a sample is drawn with a fixed seed
(``--all``: every change). A forked process, in which the libraries are imported already, imports
the changed module and runs the module's tests until the first one fails. What changes nothing but
an annotation is no change.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import NamedTuple

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
SAMPLE = 40  # changes of a module
ENOUGH = 0.85
SECONDS = 60  # of a processor, for the tests of one change
LIBRARIES = ("numpy", "pandas", "torch", "scipy.stats", "sklearn.kernel_approximation", "zarr",
             "sklearn.model_selection", "skmatter.metrics", "ase.io", "ase.build", "tqdm", "yaml",
             "hypothesis.extra.numpy", "pooch", "pydantic", "filelock", "dask")  # fmt: skip
SLOW = "not lfre_is_that and not own_number and not other_cutoffs and not bent"
# the tests of a module, and which of them
TESTS = {
    "cumulants": (["test_cumulants.py", "test_laws.py"], "cumulant"),
    "splits": (["test_splits.py", "test_laws.py"], "split or parts or traj or groups or system"),
    "store": (["test_store.py", "test_laws.py"], "store"),
    "factors": (
        ["test_factors.py", "test_reconstruction.py", "test_laws.py"],
        f"(factors or distortion or blocks or bad or gfre) and {SLOW}",
    ),
    "regression": (
        ["test_reconstruction.py", "test_laws.py"],
        f"(reconstruction or image or errors or numbering or folds) and {SLOW}",
    ),
    "reconstruction": (["test_reconstruction.py"], SLOW),
}


class Change(NamedTuple):
    """A changed module: its source, and what was done where."""

    source: str
    what: str


def changes(source: str) -> Iterator[Change]:
    """Every change of a module that its tests could notice."""
    tree = get_ast(source)
    before = meaning(source)
    for name in sorted(operator_names()):
        with contextlib.suppress(TypeError):  # those of variables want to know which
            operator = get_operator(name)()
            count = sum(1 for node in ast_nodes(tree) for _ in operator.mutation_positions(node))
            for occurrence in range(count):
                changed = mutate_code(source, operator, occurrence)
                if changed and meaning(changed) != before:
                    pairs = zip(source.splitlines(), changed.splitlines(), strict=False)
                    line, _, new = next((i, a, b) for i, (a, b) in enumerate(pairs, 1) if a != b)
                    yield Change(changed, f"{line}: {new.strip()} ({name.removeprefix('core/')})")


def meaning(source: str) -> str:
    """A module without its annotations."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            if hasattr(node, field):
                setattr(node, field, None if field == "returns" else ast.Constant(0))
    return ast.dump(tree)


def survives(module: str, source: str) -> bool:
    """Whether the tests of a module pass with another source."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(run_tests(module, source))
        except BaseException:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def run_tests(module: str, source: str) -> int:
    """Run the tests of a module of another source; their exit status."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    signal.alarm(10 * SECONDS)
    silence = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(silence, stream)
    original = SourceFileLoader.get_code

    def get_code(self, fullname):
        if fullname == f"umlip_latents.{module}":
            return compile(source, self.get_filename(fullname), "exec")
        return original(self, fullname)

    SourceFileLoader.get_code = get_code
    files, chosen = TESTS[module]
    arguments = ["-x", "-q", "-p", "no:cacheprovider", "-k", chosen]
    return pytest.main([*arguments, *(str(ROOT / "tests" / file) for file in files)])


def score(module: str, sample: int | None) -> float:
    """Print the share of changes that tests notice, and those that they do not."""
    source = (ROOT / "src" / "umlip_latents" / f"{module}.py").read_text(encoding="utf-8")
    start = time.monotonic()
    assert survives(module, source), f"{module}: its tests fail as it is"
    alone = time.monotonic() - start
    found = list(changes(source))
    chosen = found if sample is None else random.Random(0).sample(found, min(sample, len(found)))
    left = [change.what for change in chosen if survives(module, change.source)]
    share = 1 - len(left) / len(chosen)
    seconds = time.monotonic() - start
    print(f"{module}: {share:.0%} of {len(chosen)} changes out of {len(found)} are noticed "
          f"(tests {alone:.1f} s, all {seconds:.0f} s)", flush=True)  # fmt: skip
    for what in left:
        print(f"    {what}", flush=True)
    return share


def main(arguments: list[str]) -> int:
    """Score the modules that are named, or all."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ["OMP_NUM_THREADS"] = "1"
    for library in LIBRARIES:
        importlib.import_module(library)
    sample = None if "--all" in arguments else SAMPLE
    modules = [a for a in arguments if a != "--all"] or list(TESTS)
    shares = {module: score(module, sample) for module in modules}
    return 0 if min(shares.values()) >= ENOUGH else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
