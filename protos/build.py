"""Generated protobuf code: from every `corten_api/**/*.proto` to Python modules and type stubs beside it.

Owns which proto becomes which module. Runs as `python protos/build.py` and as hatchling's build hook;
`python protos/build.py --check` only tells whether what is there is fresh (exit status 1 if not).
Generated files are not in git.
"""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

HERE = Path(__file__).resolve().parent
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def generate(target: Path) -> list[Path]:
    """Write the generated modules below `target`; returns them, sorted. Raises RuntimeError when protoc fails."""
    from grpc_tools import protoc

    well_known = importlib.resources.files("grpc_tools") / "_proto"
    sources = sorted(str(path.relative_to(HERE)) for path in (HERE / "corten_api").rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{HERE}",
        f"-I{well_known}",
        f"--python_out={target}",
        f"--pyi_out={target}",
        f"--grpc_python_out={target}",
        *sources,
    ]
    if protoc.main(arguments) != 0:
        raise RuntimeError(f"protoc failed on {' '.join(sources)}")
    return sorted(path for path in target.rglob("*_pb2*.py*") if path.name.endswith(SUFFIXES))


def stale() -> list[str]:
    """Names of generated files that are missing or differ from what the protos say now."""
    with tempfile.TemporaryDirectory() as scratch:
        made = generate(Path(scratch))
        names = [path.relative_to(scratch) for path in made]
        return [
            str(name)
            for name, path in zip(names, made, strict=True)
            if not (HERE / name).is_file() or (HERE / name).read_bytes() != path.read_bytes()
        ]


def build() -> None:
    """Bring the generated files beside the protos up to date; an unchanged file keeps its time."""
    with tempfile.TemporaryDirectory() as scratch:
        for path in generate(Path(scratch)):
            target = HERE / path.relative_to(scratch)
            if not target.is_file() or target.read_bytes() != path.read_bytes():
                shutil.copyfile(path, target)


class ProtobufBuildHook(BuildHookInterface[Any]):
    """Generates the code before hatchling collects files, for wheels and editable installs alike."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build()
        build_data["artifacts"] += [f"/protos/corten_api/**/*{suffix}" for suffix in SUFFIXES]


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        left = stale()
        print("\n".join(f"stale: {name}" for name in left) or "fresh")
        raise SystemExit(bool(left))
    build()
