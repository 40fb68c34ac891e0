"""Only ``_files.py`` opens a file to write: all others write to what it hands them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "captum_softcam"
MODES = set("wax+")
ON_A_PATH = {"write_text", "write_bytes", "touch", "rename", "symlink_to", "hardlink_to", "mkstemp", "mkdtemp", "move"} | {
    "NamedTemporaryFile",
    "TemporaryDirectory",
    "copyfile",
    "copytree",
    "copy2",
}
ON_A_TARGET = {"savefig", "save_file", "savez", "savez_compressed", "to_csv", "to_json", "tofile", "savetxt"}
"""Writers that may be given what ``replacing`` or ``replacing_path`` yields, a stream in memory, or nothing."""


MOVES = ["softcam/checkpoints.py: path.replace(path.with_name(PREVIOUS))"]  # a checkpoint that is whole gets another name


def _targets(tree: ast.AST) -> set[str]:
    """Names that stand for a file of ``_files``: bound by ``with``, annotated as such, or a stream in memory."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.With(items):
                for item in items:
                    # pages of a PDF go to the file that Matplotlib is handed
                    source = ast.unparse(item.context_expr)
                    if isinstance(item.optional_vars, ast.Name) and ("replacing" in source or "PdfPages(file" in source):
                        found.add(item.optional_vars.id)
            case ast.arg(name, annotation) if annotation is not None and "IO" in ast.unparse(annotation):
                found.add(name)
            case ast.Assign([ast.Name(name)], ast.Call(func)) if ast.unparse(func) in ("io.BytesIO", "io.StringIO"):
                found.add(name)
    return found


def _mode(call: ast.Call) -> str:
    """The mode that a file is opened in, ``Path.open`` and ``open`` alike; empty where there is none."""
    given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    texts = [node.value for node in given if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return next((text for text in texts if len(text) <= 3 and set(text) <= MODES | set("rbt")), "")


def writers(code: str) -> Iterator[str]:
    """Calls in a piece of code that write to the disk by themselves."""
    tree = ast.parse(code)
    targets = _targets(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        text, name = ast.unparse(node), ast.unparse(node.func).rpartition(".")[2]
        opens = name in ("open", "fdopen") and set(_mode(node)) & MODES
        places = {each.id for each in [*node.args, *(k.value for k in node.keywords)] if isinstance(each, ast.Name)}
        bare = name in ON_A_TARGET and (node.args or name != "to_csv") and not places & targets
        # A function of this name returns text; a figure of ours passes on what it is given, and calls of it are judged.
        bare = bare and not text.startswith(("to_csv(", "super().savefig("))
        torch_saves = ast.unparse(node.func) == "torch.save" and not places & targets
        attribute = isinstance(node.func, ast.Attribute)
        moves = ast.unparse(node.func).startswith("os.re") or (
            name == "replace" and len(node.args) == 1 and not node.keywords
        )
        if opens or bare or torch_saves or moves or (attribute and name in ON_A_PATH):
            yield text


def test_nobody_else_writes():
    files = [path for path in PACKAGE.rglob("*.py") if path.name != "_files.py"]
    found = [f"{path.relative_to(PACKAGE)}: {call}" for path in files for call in writers(path.read_text("utf-8"))]
    assert found == MOVES, "write through captum_softcam/_files.py: a file is then whole or absent, and its errors name it"


@pytest.mark.parametrize(
    "code",
    [
        "open(path, 'w')",
        "path.open('wb')",
        "path.open(mode='a', encoding='utf-8')",
        "os.fdopen(handle, 'w')",
        "path.write_text('a')",
        "figure.savefig(path)",
        "figure.savefig(folder / 'panel.png', dpi=150)",
        "table.to_csv(path)",
        "np.savez_compressed(path, **arrays)",
        "save_file(state, path)",
        "torch.save(state, path)",
        "draft.replace(path)",
        "os.replace(draft, path)",
        "shutil.move(draft, path)",
        "tempfile.mkstemp()",
    ],
)
def test_a_writer_is_noticed(code):
    assert list(writers(code))


@pytest.mark.parametrize(
    "code",
    [
        "open(path)",
        "path.open('rb')",
        "path.open(newline='', encoding='utf-8')",
        "Image.open(path)",
        "text.replace('a', 'b')",
        "replace(part, run=run)",
        "table.to_csv(index=False)",
        "with replacing(path) as file:\n    figure.savefig(file, format='png')",
        "with replacing_path(path) as draft:\n    torch.save(state, draft)",
        "def write(table, file: BinaryIO):\n    table.to_csv(file)",
        "stream = io.BytesIO()\nnp.savez(stream, a=a)",
    ],
)
def test_what_reads_or_writes_through_the_one_writer_is_not(code):
    assert not list(writers(code))
