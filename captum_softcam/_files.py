"""Write files and folders completely or not at all, and lock folders for one process at a time.

This package writes to disk only through this module. A file is written beside its target, under a unique name, flushed to
the disk and renamed. At every moment, even after a kill or a loss of power, the target has its old or its new content.
Temporary files of killed processes are recognised by their name and removed by :func:`remove_leftovers`. Every ``OSError``
names the file, the reason and the cure.
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
    "check_new_file",
    "check_place",
    "new_folder",
    "owned",
    "owner_of",
    "read_json",
    "refuse_taken",
    "remove_leftovers",
    "replacing",
    "replacing_path",
    "write_json",
    "write_text",
]

_HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
_LEFTOVER = re.compile(r"\..*\.captum-softcam-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-[0-9a-f]{8}\.part")
_DAY = 24 * 3600.0  # seconds after which a temporary of another machine counts as abandoned
_LOCK, _OWNER = ".owner.lock", ".owner.json"
_WORDED = "cannot be written"
_SEAL = "seal"
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # errors of file systems without locks
_GRACE = 10.0  # seconds, because children of a killed process inherit its lock and end a little later
_CURES = {
    errno.ENOSPC: "make room there, or choose another folder",
    errno.EDQUOT: "make room there, or choose another folder",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose another folder",
    errno.EACCES: "grant permission to write there, or choose another folder",
    errno.EPERM: "grant permission to write there, or choose another folder",
    errno.EROFS: "choose a folder that is not read-only",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EEXIST: "choose another name, or move it away",
    errno.ENOENT: "make its folder first, or choose another",
    errno.ENOTDIR: "choose a place that does not lie below a file",
    errno.EISDIR: "choose the name of a file, not of a folder",
}


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` at the end of the block, completely written and flushed to the disk.

    The folder of ``path`` must exist. After an error nothing has changed.
    """
    with replacing_path(path) as draft, draft.open("wb") as file:
        yield file


@contextmanager
def replacing_path(path: Path) -> Iterator[Path]:
    """Create an empty file for a writer that needs a path; it replaces ``path`` at the end of the block.

    Like :func:`replacing`, for libraries that write files themselves. The file is alone in its folder, where they can have
    temporaries, too. If such a library reports a full disk by an error of its own, an ``OSError`` replaces it.
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
            number = re.search(r"\(os error (\d+)\)", str(error))  # how libraries in Rust end their messages
            if number:
                raise OSError(int(number[1]), _refused(OSError(int(number[1]), ""), path)) from error
            _append(draft, bytes(2**16))  # raises OSError if the disk is the reason
            raise
        draft.chmod(rights)  # safetensors creates files that only their owner can read
        _append(draft, b"")
        draft.replace(path)
    except OSError as error:
        if error.filename not in (None, str(folder), str(draft)) or _WORDED in str(error):  # of another file of the block's
            raise
        raise OSError(error.errno, _refused(error, path)) from error
    finally:
        _remove(folder)
    _synchronise(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, completely or not at all; line endings are not changed, lone surrogates are escaped."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with a digest, completely or not at all; :func:`read_json` detects every change.

    Raises:
        TypeError: if the content is not JSON; nothing is written.
    """
    plain = json.loads(json.dumps(content))
    write_text(path, json.dumps({**plain, _SEAL: _digest(plain)}, indent=2) + "\n")


def read_json(path: Path, cure: str, *, sealed: Callable[[dict[str, Any]], bool] = lambda _: True) -> dict[str, Any]:
    """Read a file written by :func:`write_json`, and return its content without the digest.

    Args:
        path (Path): the file.
        cure (str): a sentence for the error message: what to do about a damaged file, without the full stop.
        sealed (callable): content -> whether it must have a digest; an existing digest must match. Default: always

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file has changed since it was written.
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
    """Create a folder, and missing parents, that appears at the end of the block with all its files.

    Raises:
        FileExistsError: if the path exists by now.
    """
    draft = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        draft.mkdir()
        yield draft
        _synchronise(draft)
        if os.path.lexists(path):
            path.mkdir()  # raises FileExistsError, because rename would replace an empty folder
        draft.rename(path)
    except OSError as error:
        if Path(error.filename or draft) not in (draft, path, *path.parents):  # of another file of the block's
            raise
        raise OSError(error.errno, _refused(error, path)) from error
    finally:
        _remove(draft)
    _synchronise(path.parent)


def refuse_taken(path: Path) -> None:
    """Raise FileExistsError if a path is that of a file, a folder or a broken link."""
    if os.path.lexists(path):
        raise FileExistsError(f"'{shown(path)}' exists already and is not overwritten; choose another name or move it away.")


def check_new_file(path: Path, what: str) -> None:
    """Raise FileExistsError if a file exists, and FileNotFoundError if its folder does not; ``what`` names it in words."""
    refuse_taken(path)
    if not os.path.isdir(path.parent):
        raise FileNotFoundError(
            f"the {what}'s folder '{shown(path.parent)}' does not exist; make it first, or choose another."
        )


def check_place(path: Path) -> None:
    """Raise OSError if a file or folder, whose parents may be missing, cannot be written; nothing is left there."""
    try:
        with suppress(FileNotFoundError):
            path.lstat()  # raises OSError for a name that is too long
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
    """Remove temporaries of killed processes from a folder, which may be missing; subfolders are not searched."""
    with suppress(OSError):  # a folder that cannot be read raises an error when it is written to
        for entry in list(os.scandir(folder)):
            match = _LEFTOVER.fullmatch(entry.name)
            if match and _is_left(Path(entry.path), match["host"], int(match["process"])):
                _remove(Path(entry.path))


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Lock an existing folder for this process within the block, and remove temporaries of killed ones.

    The operating system releases the lock when the process ends for whatever reason. On file systems without locks, such as
    some network drives, there is a warning and no lock.

    Raises:
        BlockingIOError: if another process works there; the message names it.
    """
    lock = _lock(folder)
    try:
        with suppress(OSError):  # a full disk; the lock works without this file
            write_text(folder / _OWNER, json.dumps(_this_process()))
        remove_leftovers(folder)
        yield
    finally:
        for name in (_OWNER, _LOCK):
            _remove(folder / name)
        if lock is not None:
            lock.release()


def owner_of(folder: Path) -> str:
    """Describe the process that works in a folder by its id, machine and start, as far as known."""
    owner = _read_owner(folder)
    if not owner:
        return "another process"
    here = " (this one)" if owner == {**_this_process(), "since": owner["since"]} else ""
    return f"process {owner['process']}{here} on {owner['host']!r:.60}, since {owner['since']!s:.19}"


def _refused(error: OSError, path: Path) -> str:
    """Return the message for a file that cannot be written: its name, the reason and the cure."""
    cure = _CURES.get(error.errno or 0, "choose another place")
    return f"'{shown(path)}' {_WORDED} ({os.strerror(error.errno) if error.errno else reason(error)}); {cure}."


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _beside(path: Path) -> Path:
    """Return a name beside ``path`` that no other process or thread uses."""
    kept = os.fsdecode(os.fsencode(path.name)[:150])
    return path.with_name(f".{kept}.captum-softcam-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part")


def _make_empty(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def _append(path: Path, data: bytes) -> None:
    """Append to a file and wait until it is on the disk."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _synchronise(folder: Path) -> None:
    """Flush the entries of a folder to the disk, if the system supports it."""
    with suppress(OSError):  # Windows cannot open folders; the rename itself has succeeded
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove(path: Path) -> None:
    """Remove a file or folder, as far as allowed."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):  # the reason is that of an earlier error, which is raised
        path.unlink(missing_ok=True)


def _is_left(path: Path, host: str, process: int) -> bool:
    """Return whether a temporary is abandoned: its process has ended or, on another machine, it is old."""
    if host == _HOST and os.name == "posix":
        return not _is_alive(process)
    return time.time() - path.lstat().st_mtime > _DAY


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # the process of another user
        return True
    return True


def _lock(folder: Path) -> BaseFileLock | None:
    """Lock a folder and return the lock; warn and return None if the file system has no locks."""
    from filelock import FileLock, Timeout  # loaded only where a folder is locked

    lock = FileLock(folder / _LOCK, timeout=0, thread_local=False)
    end = time.monotonic() + _GRACE
    while True:
        if not folder.is_dir():  # FileLock would create it
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
        lock.release()  # a former owner removed its file meanwhile, so that other processes do not see this lock


def _refusal(folder: Path) -> str:
    return f"'{shown(folder)}' is in use by {owner_of(folder)}; wait until it has ended, or choose another folder."


def _this_process() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}",
    }


def _read_owner(folder: Path) -> dict[str, Any]:
    """Read the description that the owner of a folder has left; empty if there is none, or it is damaged."""
    try:
        owner = json.loads((folder / _OWNER).read_bytes())
        return {"process": int(owner["process"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _owner_is_dead(folder: Path) -> bool:
    """Return whether the owner of a folder has ended; its children may hold the lock for a few seconds more."""
    owner = _read_owner(folder)
    known = bool(owner) and owner["host"] == socket.gethostname() and os.name == "posix"
    return known and not _is_alive(owner["process"])
