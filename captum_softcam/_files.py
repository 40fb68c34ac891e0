"""Write files and folders whole or not at all, and let one process at a time work in a folder.

Everything that this package puts on a disk goes through here. A file is written beside its target, under a name that no
other process uses, brought to the disk and renamed: at every moment, a kill and a loss of power included, the target is
what it was before or what it is to become. What killed processes left is known by its name and removed by
:func:`remove_leftovers`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from captum_softcam._names import reason, shown

if TYPE_CHECKING:
    from filelock import BaseFileLock

__all__ = [
    "check_place",
    "new_folder",
    "owned",
    "owner_of",
    "read_json",
    "remove_leftovers",
    "replacing",
    "replacing_path",
    "write_json",
    "write_text",
]

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LEFTOVER = re.compile(r"\..*\.captum-softcam-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.part")
_DAY = 24 * 3600.0  # after which a temporary of another machine counts as left behind
_LOCK, _OWNER = ".owner.lock", ".owner.json"
_WORDED = "cannot be written"
_SEAL = "seal"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # how file systems without locks answer
_GRACE = 10.0  # seconds in which the children of a killed process, which inherit its lock, notice and end
_CURES = {
    errno.ENOSPC: "make room there, or choose another folder",
    errno.EDQUOT: "make room there, or choose another folder",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose another folder",
    errno.EACCES: "give rights to write there, or choose another folder",
    errno.EPERM: "give rights to write there, or choose another folder",
    errno.EROFS: "choose a folder that is not read-only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "choose another name, or move it away",
    errno.ENOENT: "make its folder first, or choose another",
    errno.ENOTDIR: "choose a place that does not lie below a file",
    errno.EISDIR: "choose the name of a file, not of a folder",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` at the end of the block, whole and on the disk.

    After an error, all is as it was before.

    Args:
        path (Path): the file; one that exists is replaced, its folder must exist.

    Yields:
        BinaryIO: what to write to.

    Raises:
        OSError: if it cannot be written; the text names the file and what to do.
    """
    with replacing_path(path) as draft, draft.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """Name a file for a writer that wants a path; it takes the place of ``path`` at the end of the block.

    As :func:`replacing`, and for libraries that report a full disk by an error of their own: where that names an error of
    the system, or the file takes no more, the message says so.

    Args:
        path (Path): the file; one that exists is replaced, its folder must exist.

    Yields:
        Path: an empty file of the same name, in a folder of its own beside it, where the writer may have temporaries too.

    Raises:
        OSError: if it cannot be written; the text names the file and what to do.
    """
    folder = _beside(path)
    draft = folder / path.name
    try:
        folder.mkdir()
        _make_empty(draft)
        rights = draft.stat().st_mode
        try:
            yield draft
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            number = re.search(r"\(os error (\d+)\)", str(error))  # as libraries in Rust end their messages
            if number:
                raise OSError(int(number[1]), _refused(OSError(int(number[1]), ""), path)) from error
            _append(draft, bytes(2**16))  # fails where the disk is what failed the library
            raise
        draft.chmod(rights)  # safetensors leaves files that only their owner can read
        _append(draft, b"")
        draft.replace(path)
    except OSError as error:
        if error.filename not in (None, str(folder), str(draft)) or _WORDED in str(error):  # about a file of the block's own
            raise
        raise OSError(error.errno, _refused(error, path)) from error
    finally:
        _remove(folder)
    _synchronise(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, whole or not at all; what UTF-8 cannot hold is written as an escape.

    Args:
        path (Path): the file; one that exists is replaced, its folder must exist.
        text (str): its content; the ends of its lines stay as they are.

    Raises:
        OSError: if it cannot be written; the text names the file and what to do.
    """
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a digest of itself, whole or not at all; :func:`read_json` notices every change.

    Args:
        path (Path): the file; one that exists is replaced, its folder must exist.
        content (mapping): what JSON can hold.

    Raises:
        TypeError: if JSON cannot hold it; nothing is written then.
        OSError: if it cannot be written; the text names the file and what to do.
    """
    plain = json.loads(json.dumps(content))
    write_text(path, json.dumps({**plain, _SEAL: _digest(plain)}, indent=2) + "\n")


def read_json(path: Path, cure: str, *, sealed: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Args:
        path (Path): the file.
        cure (str): a sentence for the message that says what to do about a damaged file, without its full stop.
        sealed (callable): content -> whether it must hold its digest; one that is there must match. Default: always

    Returns:
        dict: the content, without the digest.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not what was written.
    """
    try:
        content = json.loads(path.read_bytes())
        seal = content.pop(_SEAL, None) if isinstance(content, dict) else None
        digest = _digest(content) if seal is not None else None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"'{shown(path)}' is not JSON ({reason(error)}); it was cut off or changed. {cure}.") from error
    if not isinstance(content, dict) or seal != digest or (seal is None and sealed(content)):
        raise ValueError(f"'{shown(path)}' is not as it was written: its content and its digest differ. {cure}.")
    return content


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Make a folder that appears at the end of the block, with all that was written into it.

    Args:
        path (Path): the folder; folders above it are made too.

    Yields:
        Path: an empty folder beside it.

    Raises:
        FileExistsError: if something else has that name by now.
        OSError: if it cannot be written; the text names the folder and what to do.
    """
    draft = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        draft.mkdir()
        yield draft
        _synchronise(draft)
        if os.path.lexists(path):
            path.mkdir()  # refused by the system, which would put a folder in the place of an empty one
        draft.rename(path)
    except OSError as error:
        if Path(error.filename or draft) not in (draft, path, *path.parents):  # about another file, of the block's own
            raise
        raise OSError(error.errno, _refused(error, path)) from error
    finally:
        _remove(draft)
    _synchronise(path.parent)


def check_place(path: Path) -> None:
    """Make sure, before the work, that a file or folder can be written in the end; nothing is left there.

    Args:
        path (Path): where to; folders above it may be missing.

    Raises:
        OSError: if it cannot be written; the text names the path and what to do.
    """
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # fails for a name that is too long
        folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
        remove_leftovers(folder)
        draft = _beside(folder / path.name)
        try:
            _make_empty(draft)
            _append(draft, bytes(2**12))
        finally:
            _remove(draft)
    except OSError as error:
        raise OSError(error.errno, _refused(error, path)) from error


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in a folder; what another process is writing stays.

    Args:
        folder (Path): where to look; folders below it are left alone. One that does not exist is empty.
    """
    with suppress(OSError):  # a folder that cannot be read is found by whoever writes there
        for entry in list(os.scandir(folder)):
            match = _LEFTOVER.fullmatch(entry.name)
            if match and _is_left(Path(entry.path), match["host"], int(match["process"])):
                _remove(Path(entry.path))


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Work in a folder that no other process works in meanwhile, and that is rid of what killed ones left.

    The operating system lets go of the lock when its process ends, however that comes about. Where a file system has no
    locks, as some in a network, a warning says so and the work goes on.

    Args:
        folder (Path): an existing folder.

    Yields:
        None: for the time of the block the folder is owned.

    Raises:
        BlockingIOError: if another process works there; the text names it.
        OSError: if the folder cannot be written to.
    """
    lock = _lock(folder)
    try:
        with suppress(OSError):  # a full disk; the lock holds without it
            write_text(folder / _OWNER, json.dumps(_this_process()))
        remove_leftovers(folder)
        yield
    finally:
        for name in (_OWNER, _LOCK):
            _remove(folder / name)
        if lock is not None:
            lock.release()


def owner_of(folder: Path) -> str:
    """Name the process that works in a folder.

    Args:
        folder (Path): the folder.

    Returns:
        str: number, machine and start of the process as far as they are known.
    """
    owner = _read_owner(folder)
    if not owner:
        return "another process"
    here = " (this one)" if owner == {**_this_process(), "since": owner["since"]} else ""
    return f"process {owner['process']}{here} on {owner['host']!r:.60}, since {owner['since']!s:.19}"


def _refused(error: OSError, path: Path) -> str:
    """The file that the operating system refused to write, why, and what to do."""
    cure = _CURES.get(error.errno or 0, "choose another place")
    return f"'{shown(path)}' {_WORDED} ({os.strerror(error.errno) if error.errno else reason(error)}); {cure}."


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _beside(path: Path) -> Path:
    """A name beside ``path`` that no other process and no other thread uses."""
    kept = os.fsdecode(os.fsencode(path.name)[:150])
    return path.with_name(f".{kept}.captum-softcam-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _make_empty(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _append(path: Path, data: bytes) -> None:
    """Write at the end of a file and wait until all of it is on the disk."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _synchronise(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    with suppress(OSError):  # Windows opens no folders; the rename itself has succeeded
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file or folder as far as that is allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # what forbids writing may forbid this; the first error says it
        path.unlink(missing_ok=True)


def _is_left(path: Path, host: str, process: int) -> bool:
    """Whether nobody writes a temporary any more: its process has ended, or it is old where that cannot be seen."""
    if host == _HOST and os.name == "posix":
        return not _is_alive(process)
    return time.time() - path.lstat().st_mtime > _DAY


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _lock(folder: Path) -> BaseFileLock | None:
    """The lock of a folder; None, with a warning, where the file system has none."""
    from filelock import FileLock, Timeout  # only where a folder is worked in

    lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
    end = time.monotonic() + _GRACE
    while True:
        if not folder.is_dir():  # filelock would make it
            raise FileNotFoundError(errno.ENOENT, f"the folder '{shown(folder)}' does not exist; make it first.")
        try:
            lock.acquire()
        except Timeout:
            if not _owner_is_dead(folder) or time.monotonic() > end:
                raise BlockingIOError(errno.EWOULDBLOCK, _refusal(folder)) from None
            time.sleep(0.1)
            continue
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise OSError(error.errno, _refused(error, folder)) from error
            warnings.warn(
                f"'{shown(folder)}' lies on a file system without locks; let one process at a time work there.", stacklevel=4
            )
            return None
        if (folder / _LOCK).exists():
            return lock
        lock.release()  # its file was removed by an owner that ended meanwhile: nobody else would see this lock


def _refusal(folder: Path) -> str:
    return f"'{shown(folder)}' is in use by {owner_of(folder)}; wait until it has ended, or choose another folder."


def _this_process() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}",
    }


def _read_owner(folder: Path) -> dict[str, Any]:
    """What the owner of a folder wrote about itself; empty where it wrote nothing, or nothing that can be read."""
    try:
        owner = json.loads((folder / _OWNER).read_bytes())
        return {"process": int(owner["process"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _owner_is_dead(folder: Path) -> bool:
    """Whether the process that owned a folder has ended; its children may hold the lock for a few seconds more."""
    owner = _read_owner(folder)
    known = bool(owner) and owner["host"] == socket.gethostname() and os.name == "posix"
    return known and not _is_alive(owner["process"])
