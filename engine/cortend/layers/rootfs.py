"""The tree that a layer is unpacked into: where each entry goes, and what it replaces, hides or links to.

Owns the semantics of a layer (image-spec layer.md): implicit parents, replacement, whiteouts, opaque directories, hard
links into lower layers. Paths are walked name by name with descriptors, so a symlink never leads out of the root: an
absolute one starts again at the root, one that climbs above it or leads nowhere is refused.

With overlay whiteouts the upper tree starts empty and `lower` shows what is below it; with `remove` the one tree holds
everything, and what this layer did not make in it is what is below. Imported by the confined worker.
"""

from __future__ import annotations

import os
import shutil
import stat

from cortend.layers import files
from cortend.layers.directory import MADE, WHITEOUT, Descriptors, Directory, Metadata, Other

_MAX_LINKS = 40
_MAX_DEPTH = 1000  # of directories; the descriptors of two such paths fit into what `Descriptors` keeps open
_MAX_PATH = 4095


class Refused(Exception):
    """The layer asks for something that is never done; the text says what."""


class Rootfs:
    """One tree being changed by one layer. `root` and `lower` are directory descriptors; without `lower`, -1."""

    def __init__(self, root: int, lower: int, *, remove: bool) -> None:
        self._upper = Descriptors(root)
        self._lower = Descriptors(lower)
        self._has_lower = lower >= 0
        self._remove = remove
        self._root = Directory(None, b"", made=True, below=remove or lower >= 0)
        self._cache: dict[bytes, Directory] = {}
        source = lower if lower >= 0 else root
        self._root.metadata = files.metadata_of(source)

    # -- places ---------------------------------------------------------------------------------------------------

    def place(self, path: bytes) -> tuple[Directory, bytes]:
        """The directory that `path` goes into, made with its parents where they are not, and its last name.

        The name is b"" for the root itself.
        """
        path = path.rstrip(b"/")
        parent, _, name = path.rpartition(b"/")
        plain = name not in (b"", b".", b"..") and len(path) <= _MAX_PATH
        if plain and (directory := self._cache.get(parent)) is not None:
            return directory, name
        parts = split(path)
        if not parts:
            return self._root, b""
        directory = self._make(parts[:-1])
        if plain:
            self._cache[parent] = directory
        return directory, parts[-1]

    def descriptor(self, directory: Directory) -> int:
        """An open descriptor of a directory of the upper tree."""
        return self._upper.of(directory)

    def make_directory(self, parent: Directory, name: bytes, metadata: Metadata) -> None:
        """An entry of type directory: merged with one that is there, in place of anything else."""
        if not name:
            self._root.metadata = metadata
            return
        found = parent.names.get(name)
        if not isinstance(found, Directory):
            hidden = found is not None
            if hidden:
                self._unlink(parent, name)
            below = self._lstat_below(parent, name)
            merged = below is not None and stat.S_ISDIR(below.st_mode)
            if self._remove and below is not None and not merged:
                os.unlink(name, dir_fd=self._upper.of(parent))
            found = Directory(parent, name, made=False, below=merged)
            parent.names[name] = found
            self._materialise(found)
            if hidden and merged:
                self._hide_below(found)
        self._materialise(found)
        found.metadata = metadata

    def clear(self, parent: Directory, name: bytes) -> None:
        """Make room for something that is no directory."""
        found = parent.names.pop(name, None)
        if found is None:
            if self._remove and (below := self._lstat_below(parent, name)) is not None:
                self._delete(parent, name, below)
        elif isinstance(found, Directory):
            self._forget_paths()
            if found.made or self._remove:
                shutil.rmtree(name, dir_fd=self._upper.of(parent))
        else:
            if isinstance(found, bytes):
                self._forget_paths()
            os.unlink(name, dir_fd=self._upper.of(parent))

    def link(self, parent: Directory, name: bytes, target: bytes) -> None:
        """A hard link to `target`, a path from the root; one into a lower layer is copied up first."""
        parts = split(target)
        if not parts:
            raise Refused("is a hard link to the root directory")
        source = self._walk(parts[:-1], create=False)
        last = parts[-1]
        found = source.names.get(last) if source is not None else None
        if source is None or (found is None and self._lstat_below(source, last) is None) or found is WHITEOUT:
            raise Refused(f"is a hard link to {shown(target)}, which does not exist")
        if source is parent and last == name:
            return
        if found is None:
            self._copy_up(source, last, target)
        elif isinstance(found, Directory):
            raise Refused(f"is a hard link to the directory {shown(target)}")
        self.clear(parent, name)
        upper = self._upper
        os.link(last, name, src_dir_fd=upper.of(source), dst_dir_fd=upper.of(parent), follow_symlinks=False)
        parent.names[name] = source.names.get(last) or self._look_below(source, last) or MADE

    # -- deletions ------------------------------------------------------------------------------------------------

    def whiteout(self, path: bytes, name: bytes) -> None:
        """Delete what lower layers have as `name` beside the marker `path`; this layer's own stays."""
        if name in (b"", b".", b".."):
            raise Refused("is a deletion of nothing that has a name")
        parent = self._walk(split(path)[:-1], create=False)
        if parent is None:
            return
        found = parent.names.get(name)
        if isinstance(found, Directory) and found.made:
            self._hide_below(found)
        elif found is None or isinstance(found, Directory):
            below = self._lstat_below(parent, name)
            if below is None:
                return
            self._forget_paths()
            parent.names.pop(name, None)
            self._materialise(parent)
            if self._remove:
                self._delete(parent, name, below)
            else:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._upper.of(parent))
                parent.names[name] = WHITEOUT

    def opaque(self, path: bytes) -> None:
        """Delete everything that lower layers have in the marker's directory."""
        self._hide_below(self._make(split(path)[:-1]))

    def finish(self) -> None:
        """Give every directory its metadata, the deepest first, now that nothing changes in it any more."""
        self._finish(self._root)

    # -- how ------------------------------------------------------------------------------------------------------

    def _walk(self, parts: list[bytes], *, create: bool) -> Directory | None:
        """The directory at `parts`, symlinks followed within the root. Not made yet in the upper tree, perhaps."""
        node, links = self._root, 0
        pending = parts[::-1]
        behind = len(pending)  # so many names are left once the target of the symlink at hand is used up
        while pending:
            name = pending.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if node.parent is None:
                    raise Refused("goes through a symlink that leads out of the image")
                node = node.parent
                continue
            found = node.names.get(name)
            if found is None:
                found = self._look_below(node, name)
            if isinstance(found, Directory):
                node = found
            elif isinstance(found, bytes):
                behind = min(behind, len(pending)) if len(pending) >= behind else len(pending)
                links += 1
                if links > _MAX_LINKS:
                    raise Refused("goes through too many symlinks")
                node = self._root if found.startswith(b"/") else node
                pending.extend(found.split(b"/")[::-1])
            elif found is MADE:
                missing = shown(node.path() + b"/" + name)
                raise Refused(f"goes through {missing}, which is not a directory")
            elif not create:
                return None
            elif len(pending) >= behind:
                missing = shown(b"/" + node.path() + b"/" + name)
                raise Refused(f"goes through a symlink that leads to {missing}, which is not in the image")
            else:
                node = self._new_directory(node, name, replaces=found)
        return node

    def _new_directory(self, parent: Directory, name: bytes, *, replaces: Other | None) -> Directory:
        """An implied directory that no layer has, or not any more."""
        if parent.depth >= _MAX_DEPTH:
            raise Refused(f"lies below more than {_MAX_DEPTH} directories")
        if replaces is not None:
            self._unlink(parent, name)
        made = Directory(parent, name, made=False, below=False)
        parent.names[name] = made
        if replaces is not None:
            below = self._lstat_below(parent, name)
            made.below = below is not None and stat.S_ISDIR(below.st_mode)
            self._materialise(made)
            made.metadata = Metadata(0o755, 0, 0, 0, None)
            self._hide_below(made)
        return made

    def _look_below(self, node: Directory, name: bytes) -> Directory | bytes | Other | None:
        """What lower layers have as `name`; a directory is remembered."""
        below = self._lstat_below(node, name)
        if below is None:
            return None
        if stat.S_ISDIR(below.st_mode):
            found = Directory(node, name, made=False, below=True)
            node.names[name] = found
            return found
        if stat.S_ISLNK(below.st_mode):
            return os.readlink(name, dir_fd=self._below(node))
        return MADE

    def _below(self, node: Directory) -> int:
        return self._upper.of(node) if self._remove else self._lower.of(node)

    def _lstat_below(self, node: Directory, name: bytes) -> os.stat_result | None:
        if not node.below:
            return None
        try:
            return os.stat(name, dir_fd=self._below(node), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def _materialise(self, node: Directory) -> None:
        """Have a directory in the upper tree, looking as it does below."""
        if node.made:
            return
        assert node.parent is not None
        self._materialise(node.parent)
        if node.below:
            node.metadata = files.metadata_of(self._below(node))
        else:
            node.metadata = Metadata(0o755, 0, 0, 0, None)
        if not (self._remove and node.below):
            os.mkdir(node.name, 0o700, dir_fd=self._upper.of(node.parent))
        node.made = True

    def _hide_below(self, node: Directory) -> None:
        """Let nothing of lower layers show in `node` any more."""
        if not node.below:
            return
        if self._remove:
            self._purge(node)
        else:
            files.set_opaque(self._upper.of(node))
        self._forget_paths()
        self._cut(node)

    def _cut(self, node: Directory) -> None:
        node.below = False
        for name, child in list(node.names.items()):
            if isinstance(child, Directory):
                if child.made:
                    self._cut(child)
                else:
                    del node.names[name]

    def _purge(self, node: Directory) -> None:
        for name in os.listdir(self._upper.of(node)):
            raw = os.fsencode(name)
            found = node.names.get(raw)
            if isinstance(found, Directory) and found.made:
                if found.below:
                    self._purge(found)
            elif found is None or isinstance(found, Directory):
                self._delete(node, raw, os.stat(raw, dir_fd=self._upper.of(node), follow_symlinks=False))

    def _delete(self, parent: Directory, name: bytes, found: os.stat_result) -> None:
        if stat.S_ISDIR(found.st_mode):
            shutil.rmtree(name, dir_fd=self._upper.of(parent))
        else:
            os.unlink(name, dir_fd=self._upper.of(parent))

    def _unlink(self, parent: Directory, name: bytes) -> None:
        """Remove what is no directory and was made by this layer."""
        self._forget_paths()
        os.unlink(name, dir_fd=self._upper.of(parent))
        del parent.names[name]

    def _copy_up(self, source: Directory, name: bytes, target: bytes) -> None:
        found = self._lstat_below(source, name)
        assert found is not None
        if stat.S_ISDIR(found.st_mode):
            raise Refused(f"is a hard link to the directory {shown(target)}")
        if not self._remove:
            self._materialise(source)
            files.copy_file(self._lower.of(source), self._upper.of(source), name, found)
            symlink = stat.S_ISLNK(found.st_mode)
            source.names[name] = os.readlink(name, dir_fd=self._lower.of(source)) if symlink else MADE

    def _forget_paths(self) -> None:
        self._cache.clear()

    def _make(self, parts: list[bytes]) -> Directory:
        """The directory at `parts`, in the upper tree."""
        directory = self._walk(parts, create=True)
        assert directory is not None
        self._materialise(directory)
        return directory

    def _finish(self, node: Directory) -> None:
        for child in node.names.values():
            if isinstance(child, Directory) and child.made:
                self._finish(child)
        if node.metadata is not None:
            files.apply_to_descriptor(self._upper.of(node), node.metadata)


def split(path: bytes) -> list[bytes]:
    """The names of a path from the root, cleaned; refused where it climbs above the root or is no path at all."""
    parts: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            if not parts:
                raise Refused("leads out of the image")
            parts.pop()
        elif part not in (b"", b"."):
            if len(part) > 255:
                raise Refused("has a name of more than 255 bytes")
            parts.append(part)
    if len(path) > _MAX_PATH or len(parts) > _MAX_DEPTH:
        raise Refused("has a path of more than 4095 bytes or 1000 directories")
    return parts


def shown(path: bytes) -> str:
    """A path for messages: quoted, and not longer than a line."""
    text = path[:200].decode("utf-8", "backslashreplace")
    return '"' + "".join(each if each.isprintable() else repr(each)[1:-1] for each in text) + '"'
