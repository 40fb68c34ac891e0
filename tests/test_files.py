"""Files and folders are written whole or not at all, by one process at a time, and what a killed one left goes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest
import torch
from safetensors.torch import save_file

from captum_softcam import _files
from captum_softcam._files import check_place, new_folder, owned, remove_leftovers, replacing, replacing_path, write_text

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, limits and rights as POSIX has them")


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_at_once_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("before")
    with replacing(path) as file:
        file.write(b"after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert _names(tmp_path) == ["scores.csv"]


def test_file_has_the_rights_that_the_user_asked_the_system_for(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "table.txt", "a")
    finally:
        os.umask(mask)
    assert (tmp_path / "table.txt").stat().st_mode & 0o777 == 0o640


def _write_and_raise(path: Path, error: type[BaseException]) -> None:
    with replacing(path) as file:
        file.write(b"after")
        raise error


def _fill_and_raise(path: Path, error: type[BaseException]) -> None:
    with new_folder(path.with_name("run")) as draft:
        write_text(draft / "running.json", "{}")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_error_in_the_block_leaves_all_as_it_was(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("before")
    for write in (_write_and_raise, _fill_and_raise):
        with pytest.raises(error):
            write(path, error)
    assert path.read_text() == "before"
    assert _names(tmp_path) == ["scores.csv"]


def test_error_about_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"image\.png") as caught, replacing(tmp_path / "out.csv"):
        (tmp_path / "image.png").read_bytes()
    assert "cannot be written" not in str(caught.value)


def test_writers_at_the_same_time_do_not_share_a_temporary(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    with replacing(path) as one, replacing(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_bytes() == b"one"
    assert _names(tmp_path) == ["scores.csv"]


def _limited(*lines: str) -> str:
    """What Python prints that may write no file above 4 KiB."""
    code = "\n".join(("import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))", *lines))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "write",
    [
        "import torch; torch.save(torch.zeros(10**5), draft)",
        "import torch; from safetensors.torch import save_file; save_file({'a': torch.zeros(10**5)}, draft)",
        "raise RuntimeError('Error while serializing: I/O error: File too large (os error 27)')",
        "import numpy; numpy.save(draft.open('wb'), numpy.zeros(10**5))",
        "draft.write_bytes(bytes(10**6))",
    ],
)
def test_full_disk_is_named_whatever_the_library_raises(tmp_path: Path, write: str) -> None:
    path = tmp_path / "model.bin"
    said = _limited(
        "from pathlib import Path; from captum_softcam._files import replacing_path",
        "try:",
        f"    with replacing_path(Path({str(path)!r})) as draft:",
        f"        {write}",
        "except OSError as error: print(error.errno, error.strerror)",
    )
    text = "raise the limit on the size of files (ulimit -f), or choose another folder."
    assert said.strip() == f"{errno.EFBIG} '{path}' cannot be written (File too large); {text}"
    assert _names(tmp_path) == []


def test_error_of_a_library_that_is_not_the_disks_passes_through(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dict"), replacing_path(tmp_path / "a.safetensors") as draft:
        save_file([torch.zeros(2)], draft)
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("missing/a.csv", "make its folder first, or choose another"),
        ("file/a.csv", "choose a place that does not lie below a file"),
        ("folder", "choose the name of a file, not of a folder"),
        ("x" * 300, "choose a shorter name"),
    ],
)
def test_words_name_the_file_and_the_cure(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=words) as caught:
        write_text(tmp_path / place, "a")
    assert f"{place[-50:]}' cannot be written" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert _names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_rights_is_found_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="grant permission to write there"):
        check_place(tmp_path / "deep" / "report.html")
    tmp_path.chmod(0o700)


def test_place_that_can_be_written_stays_as_it_is(tmp_path: Path) -> None:
    check_place(tmp_path / "deep" / "down" / "report.html")
    assert _names(tmp_path) == []


@pytest.mark.parametrize(("place", "words"), [("file/report.html", "below a file"), ("y" * 300, "shorter name")])
def test_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=words):
        check_place(tmp_path / place)
    assert _names(tmp_path) == ["file"]


def test_new_folder_is_there_with_all_its_files_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with new_folder(folder) as draft:
        write_text(draft / "running.json", "{}")
        assert not folder.exists()
    assert _names(folder) == ["running.json"]
    assert _names(folder.parent) == ["one"]


def test_new_folder_takes_no_name_that_was_taken_meanwhile(tmp_path: Path) -> None:
    with pytest.raises(FileExistsError, match="one"), new_folder(tmp_path / "one"):
        (tmp_path / "one").mkdir()  # by another process; rename would replace an empty folder
    assert _names(tmp_path) == ["one"]


def _write_for_ever(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    with new_folder(path.with_name("run")) as draft, replacing(draft / "a.csv"), replacing(path):
        ready.set()
        multiprocessing.Event().wait()


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_write_for_ever, args=(tmp_path / "a.csv", ready))
    process.start()
    ready.wait()
    remove_leftovers(tmp_path)
    assert len(_names(tmp_path)) == 2
    process.kill()
    process.join()
    foreign = tmp_path / f".b.csv.captum-softcam-{'0' * 8}-1-{'0' * 8}.part"  # of another machine
    foreign.touch()
    remove_leftovers(tmp_path)
    assert _names(tmp_path) == [foreign.name]
    os.utime(foreign, (0, 0))
    (tmp_path / ".somebody.part").touch()
    remove_leftovers(tmp_path)
    assert _names(tmp_path) == [".somebody.part"]


def _own(folder: Path, ready: multiprocessing.synchronize.Event) -> None:
    with owned(folder):
        ready.set()
        multiprocessing.Event().wait()


def test_folder_has_one_owner_and_a_dead_one_loses_it(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    process = spawn.Process(target=_own, args=(tmp_path, ready))
    process.start()
    ready.wait()
    with pytest.raises(BlockingIOError, match=f"in use by process {process.pid} on .*, since 2.*; wait until it has ended"):
        owned(tmp_path).__enter__()
    process.kill()
    process.join()
    with owned(tmp_path):
        assert _files.owner_of(tmp_path).startswith(f"process {os.getpid()} (this one) on ")
        with pytest.raises(BlockingIOError, match="this one"):
            owned(tmp_path).__enter__()
    assert _names(tmp_path) == []


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 10**5, '{"process": "x"}', "\0"])
def test_owner_that_cannot_be_read_is_another_process(tmp_path: Path, text: str) -> None:
    (tmp_path / ".owner.json").write_text(text)
    assert _files.owner_of(tmp_path) == "another process"


def test_file_system_without_locks_is_said_and_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.warns(UserWarning, match="a file system without locks; let one process at a time work there"):
        owned(tmp_path).__enter__()


def test_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="does not exist; make it first"):
        owned(tmp_path / "missing").__enter__()
    assert _names(tmp_path) == []
