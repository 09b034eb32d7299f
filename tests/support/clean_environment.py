"""An empty environment that holds some of our wheels and what they declare to need, and nothing else.

Wheels are built from the checkout; what they need is found by following declared requirements, and is linked from the
environment that runs the tests, so that no network is needed. Whatever is used without being declared is missing there.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PathDistribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class CleanEnvironment:
    """A virtual environment: its interpreter, and the names of the distributions in it."""

    python: Path
    names: frozenset[str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its interpreter, away from the checkout and deaf to the tests' own paths."""
        return subprocess.run(
            [str(self.python), "-I", *arguments],
            cwd=self.python.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def make_environment(folder: Path, *sources: str) -> CleanEnvironment:
    """Build the wheels of these distributions' folders and put them, with what they need, into an empty environment."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True, timeout=120)
    place = next((folder / "venv").glob("lib/python*/site-packages"))
    ours = [_unpack(_built(folder / "wheels", source), place) for source in sources]
    own_names: set[str] = {canonicalize_name(one.metadata["Name"]) for one in ours}
    needed = _closure(ours, own_names)
    for name in needed:
        _link(distribution(name), place)
    return CleanEnvironment(folder / "venv" / "bin" / "python", frozenset(own_names | needed))


def _built(folder: Path, source: str) -> Path:
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder / source)]
    subprocess.run([*command, str(ROOT / source)], check=True, capture_output=True, timeout=120)
    return next((folder / source).glob("*.whl"))


def _unpack(wheel: Path, place: Path) -> PathDistribution:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(place)
        information = next(name.split("/")[0] for name in opened.namelist() if ".dist-info/" in name)
    return PathDistribution(place / information)


def _closure(begun: Sequence[Distribution], own_names: set[str]) -> set[str]:
    found: set[str] = set()
    open_ends = [name for one in begun for name in _required(one, frozenset())]
    while open_ends:
        name, extras = open_ends.pop()
        if name not in own_names and name not in found:
            found.add(name)
            open_ends += _required(distribution(name), extras)
        elif extras and name not in own_names:
            open_ends += [one for one in _required(distribution(name), extras) if one[0] not in found]
    return found


def _required(one: Distribution, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in one.requires or ():
        requirement = Requirement(text)
        chosen = extras | {""}
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in chosen):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def _link(one: Distribution, place: Path) -> None:
    tops = {file.parts[0] for file in one.files or () if file.parts[0] not in {"..", "__pycache__"}}
    for top in tops:
        target = place / top
        if not target.exists():
            target.symlink_to(Path(str(one.locate_file(top))))
