"""Lines of code of every module of ``src``, and whether the house has grown too big.

A line of code holds a token; docstrings, comments and blank lines are free.
"""

import ast
import sys
import tokenize
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "umlip_latents"
# lines of code of all modules, to become 3,000 and more only with a family; lines of one file
MOST_CODE, LONGEST = 5547, 400
FREE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
    tokenize.ENCODING,
}


def code_lines(file: Path) -> int:
    """Lines of code of a module."""
    lines: set[int] = set()
    with open(file, "rb") as stream:
        for token in tokenize.tokenize(stream.readline):
            if token.type not in FREE:
                lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            lines.difference_update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


if __name__ == "__main__":
    files = sorted(PACKAGE.rglob("*.py"))
    for file in files:
        print(f"{code_lines(file):5} {file.relative_to(PACKAGE)}")
    total = sum(map(code_lines, files))
    print(f"{total:5} lines of code")
    long = [f.name for f in files if len(f.read_text(encoding="utf-8").splitlines()) > LONGEST]
    if total > MOST_CODE or long:
        sys.exit(f"More than {MOST_CODE} lines of code, or files over {LONGEST} lines: {long}.")
