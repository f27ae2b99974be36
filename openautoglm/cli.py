"""The command line: `openautoglm compress | search | recommend | inspect | advise`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from openautoglm.artifact import ArtifactError
from openautoglm.errors import UserError

MODEL = "folder of the fine-tuned model, or its name on the hub"
LATENCY = "most milliseconds a text, one thread, e.g. 5ms"
EXAMPLES = """\
  openautoglm recommend --model my-model --memory 8MB --latency 5ms --out config.json
  openautoglm compress --model my-model --train train.csv --dev dev.csv --config config.json --out small
  openautoglm inspect small/artifact
  openautoglm advise small
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0, 1 where recommend meets no budget, 2 after one message on standard error, 130 after Ctrl-C."""
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except (UserError, ArtifactError) as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written
        message = f"{error.strerror or error}: {error.filename or 'while writing'}."
    except KeyboardInterrupt:
        resumes = command in (_compress, _search)
        print("Stopped." + " The same command goes on from here." * resumes, file=sys.stderr)
        return 130
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="openautoglm",
        description="Compress a fine-tuned Transformer classifier, and see what came of it.",
        epilog=f"examples:\n{EXAMPLES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_compress, _add_search, _add_recommend, _add_inspect, _add_advise):
        add(commands)
    return parser


def _add_compress(commands: argparse._SubParsersAction) -> None:
    add = commands.add_parser("compress", help="make a small model from a big one and your texts")
    _add_texts(add, "new folder for artifact/, student/ and report.json")
    add.add_argument("--deployment", default="onnx-plan", help="form of the artifact (default: %(default)s)")
    add.add_argument("--epochs", type=float, default=4.0, help="passes over train (default: %(default)s)")
    add.set_defaults(command=_compress)


def _add_texts(add: argparse.ArgumentParser, out: str) -> None:
    """What compress and search both need: a model, its texts, where to write."""
    add.add_argument("--model", required=True, help=MODEL)
    add.add_argument("--train", required=True, type=Path, help=".csv, .tsv, .jsonl or .parquet")
    add.add_argument("--dev", required=True, type=Path, help="the same, other texts: they choose and check")
    add.add_argument("--out", required=True, type=Path, help=out)
    add.add_argument("--config", type=Path, help="JSON of CompressionConfig's keys")
    add.add_argument("--seed", type=_seed, default=0)
    add.add_argument("--text", default="text", help="column of the texts (default: %(default)s)")
    add.add_argument("--label", default="label", help="column of the labels (default: %(default)s)")
    add.add_argument("--labels", type=lambda names: names.split(","), help="classes, in the order of the outputs")
    add.add_argument("--metric", help="what dev is scored with: accuracy, macro_f1; or pearson, spearman")
    add.add_argument("--max-length", type=int, help="word pieces read of a text (default: those of the longest)")


def _compress(given: argparse.Namespace) -> int:
    from openautoglm.compress_files import compress_files

    print(compress_files(**_settings(given)))
    return 0


def _add_search(commands: argparse._SubParsersAction) -> None:
    add = commands.add_parser("search", help="the best config within a budget, by trials on your texts: hours")
    _add_texts(add, "folder for config.json and the trials; goes on there")
    add.add_argument("--size", type=_bytes, required=True, help="most bytes of the whole artifact, e.g. 8MB")
    add.add_argument("--latency", type=_milliseconds, required=True, help=LATENCY)
    add.add_argument("--seconds", type=float, default=3600.0, help="stop within this time (default: %(default)s)")
    add.add_argument("--trials", type=int, default=200, help="cheap trials at most (default: %(default)s)")
    add.add_argument("--epochs", type=float, default=2.0, help="passes of the longest trials (default: %(default)s)")
    add.add_argument("--length", type=int, help="word pieces of a typical text (default: the median of train)")
    add.set_defaults(command=_search)


def _search(given: argparse.Namespace) -> int:
    from openautoglm.search_files import search_files

    print(search_files(**_settings(given)))
    return 0


def _settings(given: argparse.Namespace) -> dict[str, Any]:
    """The call's arguments: how to read the tables is one of them."""
    from openautoglm.task_files import TaskFiles

    options = {name: value for name, value in vars(given).items() if name != "command"}
    files = {field.name: options.pop(field.name) for field in fields(TaskFiles)}
    return options | {"files": TaskFiles(**files)}


def _add_inspect(commands: argparse._SubParsersAction) -> None:
    add = commands.add_parser("inspect", help="what is in an artifact or a saved student, layer by layer")
    add.add_argument("folder", type=Path)
    add.add_argument("--tensors", action="store_true", help="every tensor, not only sums")
    add.set_defaults(command=_inspect)


def _inspect(given: argparse.Namespace) -> int:
    from openautoglm.inspection import inspect

    print(inspect(given.folder, tensors=given.tensors))
    return 0


def _add_recommend(commands: argparse._SubParsersAction) -> None:
    add = commands.add_parser("recommend", help="a config for a budget of bytes and milliseconds on this machine")
    add.add_argument("--model", required=True, help=MODEL)
    add.add_argument("--memory", type=_bytes, help="most bytes of the whole artifact, e.g. 8MB")
    add.add_argument("--latency", type=_milliseconds, help=LATENCY)
    add.add_argument("--length", type=int, default=32, help="word pieces of a typical text (default: %(default)s)")
    add.add_argument("--out", type=Path, help="write the config here, for compress --config")
    add.set_defaults(command=_recommend)


def _recommend(given: argparse.Namespace) -> int:
    from openautoglm.compress_files import refuse_nameless
    from openautoglm.recommend import recommend

    if given.out:
        refuse_nameless(given.out)  # before anything is measured
    found = recommend(given.model, memory=given.memory, latency_ms=given.latency, length=given.length)
    print(found.words())
    if given.out:
        found.write(given.out)
    return 0 if found.met else 1


def _add_advise(commands: argparse._SubParsersAction) -> None:
    add = commands.add_parser("advise", help="what limits a run, and what to try")
    add.add_argument("run", type=Path, help="a folder that compress wrote, a saved student, or a record's JSON")
    add.set_defaults(command=_advise)


def _advise(given: argparse.Namespace) -> int:
    from openautoglm.advise import advise

    print(advise(given.run))
    return 0


def _seed(words: str) -> int:
    """Seeds are multiplied, and torch's have 64 bits."""
    try:
        seed = int(words)
    except ValueError:
        seed = 2**64
    if abs(seed) > 2**32:
        raise argparse.ArgumentTypeError(f"{words!r} is no seed; give a whole number of at most 2^32")
    return seed


def _bytes(words: str) -> float:
    return _quantity(words, {"GB": 1e9, "MB": 1e6, "KB": 1e3, "B": 1.0, "": 1.0}, "8MB, 800kB or bytes")


def _milliseconds(words: str) -> float:
    return _quantity(words, {"US": 1e-3, "MS": 1.0, "S": 1e3, "": 1.0}, "5ms, 0.02s or milliseconds")


def _quantity(words: str, units: dict[str, float], known: str) -> float:
    number = words.strip().rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
    unit = words.strip()[len(number) :].upper()
    try:
        value = float(number) * units[unit]
    except (ValueError, KeyError):
        value = -1.0
    if not 0 < value < 1e15:
        raise argparse.ArgumentTypeError(f"{words!r} is no amount; give e.g. {known}")
    return value


if __name__ == "__main__":
    sys.exit(main())
