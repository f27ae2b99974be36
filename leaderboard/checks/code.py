"""The rule on a submission's source, read and never run. What it cannot see, the sandbox of the trial holds back."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from leaderboard.checks.subject import Problem, Submission

_MODULES = """
__future__ abc collections contextlib copy dataclasses enum functools heapq itertools math numbers numpy openautoglm
operator random re statistics string tokenizers torch tqdm transformers typing warnings
"""
# Of modules that are allowed: what reads, writes, reaches out, or leads to modules that do.
_NAMES = """
open eval exec compile input breakpoint globals locals vars getattr setattr delattr __import__ __builtins__
__loader__ __spec__ __file__
"""
_ATTRIBUTES = """
os sys io subprocess ctypes socket shutil pathlib importlib pickle multiprocessing distributed hub cpp_extension
f2py load save fromfile tofile memmap loadtxt savetxt genfromtxt savez open_memmap DataSource from_pretrained
save_pretrained push_to_hub from_file load_library set_num_threads set_num_interop_threads
"""
_HARMLESS = """
__init__ __name__ __doc__ __call__ __len__ __getitem__ __iter__ __next__ __post_init__
"""
MODULES, NAMES, ATTRIBUTES, HARMLESS = (
    frozenset(words.split()) for words in (_MODULES, _NAMES, _ATTRIBUTES, _HARMLESS)
)
MOST_CONSTANTS, LONGEST = 256, 4000
LEARN = "a method computes with what `compress` is given: teacher, task, budget"


def code(given: Submission) -> Iterator[Problem]:
    """The source imports what computes, and opens, starts and looks up nothing."""
    for path in given.plain:
        if path.suffix == ".py":
            for line, seen in _breaches(path, given.name):
                yield Problem(f"{given.short(path)}:{line}", seen, LEARN)
    if given.card and given.card.kind == "method" and not (given.folder / "method.py").is_file():
        yield Problem(given.name, "there is no method.py", "write it; `bench new` shows one that works")


def _breaches(path: Path, name: str) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        yield getattr(error, "lineno", 0) or 0, f"is no Python source ({error})"[:200]
        return
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        for module in _imported(node):
            if not _allowed(module, name):
                yield line, f"imports {module}; allowed are {', '.join(sorted(MODULES - {'__future__'}))}"
        if isinstance(node, ast.Name) and node.id in NAMES:
            yield line, f"uses {node.id}"
        word = node.attr if isinstance(node, ast.Attribute) else node.name if isinstance(node, ast.alias) else ""
        if word in ATTRIBUTES or _private(node, word):
            yield line, f"uses .{word}"
        if word == "*":
            yield line, "imports *: name what you use"
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and len(node.value) > LONGEST:
            yield line, f"holds a constant of {len(node.value):,} characters; at most {LONGEST:,}"
        if isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict)):
            held = sum(isinstance(inner, ast.Constant) for inner in ast.walk(node))
            if held > MOST_CONSTANTS:
                yield line, f"holds a table of {held:,} constants; at most {MOST_CONSTANTS}"


def _private(node: ast.AST, word: str) -> bool:
    """Is it not meant for others? `random._os` leads out as random.os would; `self._layer` is a method's own."""
    own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    return word.startswith("__" if own else "_") and word not in HARMLESS


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [] if node.level == 1 else [node.module or "the folder above"]
    return []


def _allowed(module: str, name: str) -> bool:
    return (
        module.split(".")[0] in MODULES or module == f"submissions.{name}" or module.startswith(f"submissions.{name}.")
    )


RULES = (code,)
