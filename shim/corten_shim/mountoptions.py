"""The options of an OCI mount, sorted by what they mean: attributes, propagation, data of the filesystem.

Owns the words. Source: OCI runtime-spec config.md "Linux mount options", mount(8).
"""

from __future__ import annotations

from corten_shim.linux import const

# word -> (bits to set, bits to clear)
_ATTRIBUTES = {
    "ro": (const.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, const.MOUNT_ATTR_RDONLY),
    "nosuid": (const.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, const.MOUNT_ATTR_NOSUID),
    "nodev": (const.MOUNT_ATTR_NODEV, 0),
    "dev": (0, const.MOUNT_ATTR_NODEV),
    "noexec": (const.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, const.MOUNT_ATTR_NOEXEC),
    "noatime": (const.MOUNT_ATTR_NOATIME, const.MOUNT_ATTR_ATIME),
    "relatime": (const.MOUNT_ATTR_RELATIME, const.MOUNT_ATTR_ATIME),
    "strictatime": (const.MOUNT_ATTR_STRICTATIME, const.MOUNT_ATTR_ATIME),
    "atime": (0, const.MOUNT_ATTR_ATIME),
    "nodiratime": (const.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, const.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (const.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, const.MOUNT_ATTR_NOSYMFOLLOW),
}
_PROPAGATION = {
    "private": const.MS_PRIVATE,
    "slave": const.MS_SLAVE,
    "shared": const.MS_SHARED,
    "unbindable": const.MS_UNBINDABLE,
}
_IGNORED = frozenset(
    "defaults bind rbind async auto nofail noauto remount tmpcopyup silent loud norelatime nostrictatime iversion "
    "noiversion".split()
)


class MountOptions:
    """`on` and `off` are attribute bits of the mount itself, `all_*` of those below it too; `data` is the rest.

    `idmap` asks for shifted ids, `idmap_recursive` also of what is mounted below; `copy_up` for the covered content.
    """

    __slots__ = (
        "all_off",
        "all_on",
        "bind",
        "copy_up",
        "data",
        "idmap",
        "idmap_recursive",
        "off",
        "on",
        "propagation",
        "propagation_recursive",
        "recursive",
    )

    def __init__(self, words: list[str]) -> None:
        self.on = self.off = self.all_on = self.all_off = self.propagation = 0
        self.propagation_recursive = self.idmap_recursive = False
        self.idmap = "idmap" in words or "ridmap" in words
        self.copy_up = "tmpcopyup" in words
        self.recursive = "rbind" in words
        self.bind = self.recursive or "bind" in words
        self.data: list[tuple[str, str]] = []
        for word in words:
            self._take(word)

    def _take(self, word: str) -> None:
        plain = word[1:] if word.startswith("r") and word not in _ATTRIBUTES else word
        if word in _ATTRIBUTES:
            on, off = _ATTRIBUTES[word]
            self.on, self.off = self.on & ~off | on, self.off & ~on | off
        elif plain != word and plain in _ATTRIBUTES:
            on, off = _ATTRIBUTES[plain]
            self.all_on, self.all_off = self.all_on & ~off | on, self.all_off & ~on | off
        elif plain in _PROPAGATION:
            self.propagation = _PROPAGATION[plain]
            self.propagation_recursive = plain != word
        elif plain == "idmap":
            self.idmap_recursive = plain != word
        elif word not in _IGNORED:
            name, _, value = word.partition("=")
            self.data.append((name, value))
