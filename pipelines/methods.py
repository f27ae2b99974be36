"""A method's module, its contract, and the source files that it really imports."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from leaderboard.submission import FILE, CardError, read_card
from pipelines.errors import UserError
from pipelines.params import known, nearest

CONTRACT = ("teacher", "task", "budget")
TEXTS = ("PAPER", "KEPT", "LEFT_OUT")
FOLDERS = ("baselines", "submissions", "openautoglm", "leaderboard", "pipelines")  # ours


def module_name(method: str) -> str:
    """baselines.<method> or submissions.<method>.method; UserError where neither file exists names the nearest."""
    if Path("baselines", f"{method}.py").is_file():
        return f"baselines.{method}"
    if Path("submissions", method, "method.py").is_file():
        return f"submissions.{method}.method"
    there = [path.stem for path in Path("baselines").glob("[a-z]*.py")]
    there += [path.parent.name for path in Path("submissions").glob("*/method.py")]
    raise UserError(
        f"Method {method!r} of params.yaml has no file: write baselines/{method}.py or submissions/{method}/method.py "
        f"(copy baselines/teacher.py), or remove it from params.yaml{nearest(method, there)}"
    )


def load(method: str) -> ModuleType:
    """The method's module, its contract checked; UserError lists every breach."""
    module = importlib.import_module(module_name(method))
    _take_texts(method, module)
    breaches = [f"it has no {name} (a string)" for name in TEXTS if not isinstance(getattr(module, name, None), str)]
    if not (module.__doc__ or "").strip():
        breaches.append("it has no docstring: its first line is the caption on the board")
    compress = getattr(module, "compress", None)
    if not callable(compress):
        breaches.append("it has no function compress(teacher, task, budget, *, ...)")
    else:
        parameters = inspect.signature(compress).parameters.values()
        given = tuple(p.name for p in parameters if p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD))
        if given != CONTRACT:
            breaches.append(f"compress takes {given}; it takes {CONTRACT}, and knobs by keyword only")
        if "method" in inspect.signature(compress).parameters:
            breaches.append("it has a knob named 'method', which in params.yaml names the module of a variant")
    if breaches:
        raise UserError(f"{module.__file__} breaks the contract of a method: " + "; ".join(breaches) + ".")
    return module


def _take_texts(method: str, module: ModuleType) -> None:
    """A submission says PAPER, KEPT and LEFT_OUT in its card.yaml; its module need not say them again."""
    path = Path("submissions", method, FILE)
    if path.is_file():
        try:
            card = read_card(path)
        except CardError as error:
            raise UserError(str(error)) from None
        for name in TEXTS:
            module.__dict__.setdefault(name, getattr(card, name.lower()))


def bind(module: ModuleType, given: dict[str, Any], row: str | None = None) -> dict[str, Any]:
    """Every knob with its value: the default, or the one of params.yaml; UserError for one that does not exist.

    `row`: the entry of params.yaml that they were given in; by default the one named like the module.
    """
    defaults = knobs(module)
    place = f"methods.{row or module.__name__.split('.')[1]}"
    for name, value in given.items():
        default = known(defaults, name, "knob", place)
        number = isinstance(default, (int, float)) and not isinstance(default, bool)
        if number and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise UserError(f"{place}.{name} is {value!r}; it takes a number, such as {default!r}.")
    if missing := [name for name, value in (defaults | given).items() if value is inspect.Parameter.empty]:
        raise UserError(f"{place} does not set {missing}, which have no default: set them there, or give them one.")
    return defaults | given


def knobs(module: ModuleType) -> dict[str, Any]:
    """Every knob with its default, `inspect.Parameter.empty` where it has none: compress's keyword-only arguments, or
    the dict KNOBS of a module whose compress takes **config.
    """
    parameters = inspect.signature(module.compress).parameters.values()
    return getattr(module, "KNOBS", None) or {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


def sources_sha256(roots: Iterable[str]) -> str:
    """One hash of the files of our own that `roots` import, directly or through others, by their text."""
    digest = hashlib.sha256()
    for path in sorted(_closure(roots)):
        digest.update(path.as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _closure(roots: Iterable[str]) -> set[Path]:
    found: set[Path] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        path = _file(module)
        if path is None:
            waiting += _offered(module)
        elif path not in found:
            found.add(path)
            waiting += _imports(path)[0]
    return found


def _file(module: str) -> Path | None:
    """The file of a module of ours; None for others and for names inside a module."""
    base = Path(*module.split("."))
    if module.split(".")[0] not in FOLDERS:
        return None
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def _offered(name: str) -> list[str]:
    """Where a name inside a package comes from that imports it late (openautoglm.AutoCompressor): the package tells it
    to type checkers. All of them for `package.*`, which is what `import package` gives too.
    """
    package, _, wanted = name.rpartition(".")
    path = _file(package) if package else None
    if path is None or path.name != "__init__.py":
        return []
    late = _imports(path)[1]
    return late if wanted == "*" else [x.removesuffix(f".{wanted}") for x in late if x.endswith(f".{wanted}")]


def _imports(path: Path) -> tuple[list[str], list[str]]:
    """Module names that a file imports anywhere in it, late imports too; and those that only type checkers import."""
    tree = ast.parse(path.read_bytes())
    told = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    unused = {id(node) for block in told for statement in block.body for node in ast.walk(statement)}
    names: tuple[list[str], list[str]] = ([], [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names[id(node) in unused].extend(f"{alias.name}{end}" for alias in node.names for end in ("", ".*"))
        elif isinstance(node, ast.ImportFrom):
            above = path.parent.parts[: len(path.parent.parts) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names[id(node) in unused].extend([module, *(f"{module}.{alias.name}" for alias in node.names)])
    return names
