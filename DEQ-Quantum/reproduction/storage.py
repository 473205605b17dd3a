"""Folders kept at an fsspec address, as s3://bucket/prefix, where machines share no file system.

    <address>/<name>/<turn>/claim            whose turn it is: the writer of the highest turn owns the folder
    <address>/<name>/<turn>/manifest.json    {path in the folder: {"sha256": ..., "size": ...}}
    <address>/<name>/<turn>/<sha256>         the content of a file

An object is uploaded under a temporary name and moved, and the manifest comes after all that it names: a machine lost
at any moment leaves the copy before whole. There are no locks at such an address. Who claims a folder opens the next
turn; an older owner that is still alive writes into its own turn, which nobody reads any more, and is told at its next
upload.
Knows fsspec and folders; nothing of jobs, Ray or what a folder holds, but that files ending in .tmp are not done.
"""

import hashlib
import json
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from runs.settings import SettingsError
from utils.files import atomic_write

MANIFEST, CLAIM = "manifest.json", "claim"
ATTEMPTS = 5  # of reading what is being replaced meanwhile
TAKEN_OVER = "another worker has taken this run over"
LOOK_EVERY = 2.0  # seconds between looks at a flag: each is a request


class StorageError(SettingsError):
    """A storage that cannot be used; one line that names --storage and the remedy."""


class SupersededError(StorageError):
    """Another owner has claimed the folder."""


@dataclass(frozen=True)
class Storage:
    """Folders by name at an address; made by `open_storage`, and given to other processes as it is."""

    address: str

    def claim(self, name: str) -> "Claim":
        """Become the owner of a folder, which need not exist."""
        with self._one_line():
            turn, owner = max(self._turns(name), default=0) + 1, uuid.uuid4().hex
            self._write(f"{name}/{turn}/{CLAIM}", owner.encode())
        return Claim(self, name, turn, owner)

    def fetch(self, name: str, folder: Path, first: str = "", last: str = "") -> bool:
        """Bring a folder here: files that differ are replaced, each atomically, `first` before and `last` after others.

        Returns:
            Whether the storage holds it.

        Raises:
            StorageError: no access, or a damaged object.
        """
        for attempt in range(ATTEMPTS):
            with self._one_line():
                turn, files = self.newest(name)
                try:
                    for path in sorted(files, key=lambda path: (path == last) - (path == first)):
                        self._fetch_file(f"{name}/{turn}/{files[path]['sha256']}", files[path], folder / path)
                    return bool(files)
                except FileNotFoundError:  # the owner has put a newer copy in its place
                    if attempt + 1 == ATTEMPTS:
                        raise
        raise AssertionError("unreachable")

    def newest(self, name: str) -> tuple[int, dict[str, dict]]:
        """The last turn that has a copy of a folder, and that copy's manifest; (0, {}) where there is none."""
        for turn in sorted(self._turns(name), reverse=True):
            if (content := self._read(f"{name}/{turn}/{MANIFEST}")) is not None:
                return turn, json.loads(content)
        return 0, {}

    def flag(self, name: str) -> "Flag":
        """A file that one machine makes and all see."""
        return Flag(self, name)

    def refuse_memory(self) -> None:
        """Refuse what other processes cannot see.

        Raises:
            StorageError: it is one process's memory.
        """
        if self.address.startswith("memory:"):
            raise StorageError(f"--storage {self.address} is this process's memory, which Ray's workers do not see: "
                               "give file://, s3:// or gs://")  # fmt: skip

    # the objects

    def at(self, name: str = "") -> tuple:
        """The fsspec file system, and the path of an object in it."""
        from fsspec.core import url_to_fs  # here: a fifth of a second, and few commands have a storage

        local = "://" not in self.address or self.address.startswith(("file://", "local://"))
        fs, root = url_to_fs(self.address, **({"auto_mkdir": True} if local else {}))
        return fs, f"{root}/{name}" if name else root

    def _turns(self, name: str) -> list[int]:
        fs, path = self.at(name)
        fs.invalidate_cache()  # other machines write here
        try:
            found = [PurePosixPath(entry).name for entry in fs.ls(path, detail=False)]
        except FileNotFoundError:
            return []
        return [int(turn) for turn in found if turn.isdigit()]

    def _read(self, name: str) -> bytes | None:
        fs, path = self.at(name)
        try:
            return fs.cat_file(path)
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes) -> None:
        fs, path = self.at(name)
        aside = f"{path}.{uuid.uuid4().hex}.tmp"
        fs.pipe_file(aside, content)
        fs.mv(aside, path)

    def _remove(self, name: str, recursive: bool = False) -> None:
        fs, path = self.at(name)
        try:
            fs.rm(path, recursive=recursive)
        except FileNotFoundError:
            pass

    def _fetch_file(self, name: str, about: dict, path: Path) -> None:
        if path.exists() and _sha256(path.read_bytes()) == about["sha256"]:
            return
        content = self._read(name)
        if content is None:
            raise FileNotFoundError(name)
        if _sha256(content) != about["sha256"]:
            raise StorageError(f"--storage {self.address}: {name} is damaged; remove {PurePosixPath(name).parents[1]} "
                               "there to train that run anew")  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)

    def _one_line(self) -> "_OneLine":
        return _OneLine(self.address)


@dataclass
class Claim:
    """A folder of a storage while it is ours.

    Attributes:
        storage, name: which.
        turn: ours; ends with the next owner's claim.
        owner: what the claim says, should two have opened one turn at once: the later one has it.
    """

    storage: Storage
    name: str
    turn: int
    owner: str
    _uploaded: set[str] = field(default_factory=set, repr=False)  # objects of this turn

    def push(self, folder: Path) -> None:
        """Put a copy of a folder, which may be written meanwhile, in the place of the one before.

        What is replaced atomically, as checkpoints are, is of one moment, and what grows, as a log does, of that one
        or later: a process killed then would have left the same.

        Raises:
            SupersededError: the folder has another owner now.
            StorageError: no access; the copy before is still there.
        """
        with self.storage._one_line():
            claim = self.storage._read(f"{self.name}/{self.turn}/{CLAIM}")
            if claim != self.owner.encode() or max(self.storage._turns(self.name)) > self.turn:
                raise SupersededError(f"--storage {self.storage.address}: {TAKEN_OVER} ({self.name})")
            files = self._upload(folder)
            self.storage._write(f"{self.name}/{self.turn}/{MANIFEST}", json.dumps(files).encode())
            self._forget_all_but({about["sha256"] for about in files.values()})

    def _upload(self, folder: Path) -> dict[str, dict]:
        for _ in range(ATTEMPTS):
            seen, files = _replaced(folder), {}
            for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".tmp"):
                try:
                    content = path.read_bytes()
                except FileNotFoundError:
                    continue
                about = {"sha256": _sha256(content), "size": len(content)}
                if about["sha256"] not in self._uploaded:
                    self.storage._write(f"{self.name}/{self.turn}/{about['sha256']}", content)
                    self._uploaded.add(about["sha256"])
                files[path.relative_to(folder).as_posix()] = about
            if _replaced(folder) == seen:
                return files
        raise StorageError(f"--storage {self.storage.address}: {folder} changes faster than it is uploaded")

    def _forget_all_but(self, named: set[str]) -> None:
        """Remove what no copy names any more: objects of this turn, and the turns before."""
        for name in self._uploaded - named:
            self.storage._remove(f"{self.name}/{self.turn}/{name}")
        self._uploaded &= named
        for turn in self.storage._turns(self.name):
            if turn < self.turn:
                self.storage._remove(f"{self.name}/{turn}", recursive=True)


@dataclass
class Flag:
    """A file in a storage, with the part of a path's interface that a stop request needs."""

    storage: Storage
    name: str
    _seen: bool = False
    _looked: float = field(default=-LOOK_EVERY, repr=False)

    def exists(self) -> bool:
        """Whether it is there; looked up every two seconds only, and as it was while the storage does not answer."""
        if not self._seen and time.monotonic() - self._looked >= LOOK_EVERY:
            try:
                self._seen = self.storage._read(self.name) is not None
            except Exception:  # each kind of storage has its own
                pass
            self._looked = time.monotonic()
        return self._seen

    def touch(self) -> None:
        with self.storage._one_line():
            self.storage._write(self.name, b"")
        self._seen = True

    def unlink(self, missing_ok: bool = True) -> None:
        with self.storage._one_line():
            self.storage._remove(self.name)


class _OneLine:
    """Context that turns what any storage raises into a `StorageError`."""

    def __init__(self, address: str):
        self._address = address

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if isinstance(error, Exception) and not isinstance(error, StorageError):
            raise StorageError(f"--storage {self._address}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if isinstance(error, ImportError):
        return f"{line} (with pip, into this environment, on every machine)"
    if isinstance(error, ValueError) and line.startswith("Protocol not known"):
        return f"{line}; give a folder, file://, s3://, gs:// or another protocol of fsspec"
    return f"no access ({line}); check the address and this machine's rights there"


def open_storage(address: str) -> Storage:
    """The storage at an address, once it has been seen to work: an object is written, read and removed.

    Args:
        address: as fsspec takes it; a folder's path may be relative.

    Raises:
        StorageError: an unknown protocol, a package that it needs, or no access.
    """
    storage = Storage(address)
    with storage._one_line():
        if not address.strip():
            raise ValueError("Protocol not known: an empty address")
        fs, root = storage.at()
        storage = Storage(fs.unstrip_protocol(root))  # absolute: workers start elsewhere
        probe, content = f".probe-{uuid.uuid4().hex}", b"qdeq"
        storage._write(probe, content)
        if storage._read(probe) != content:
            raise OSError("what was written is not what is read")
        storage._remove(probe)
    return storage


def _replaced(folder: Path) -> dict[Path, tuple]:
    """Files that are replaced as a whole, with what tells one from the next."""
    seen = {}
    for path in [*folder.glob("*.pt"), *folder.glob("*.json")]:
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        seen[path] = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
    return seen


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
