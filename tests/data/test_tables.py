"""Tables and lists as programs write them."""

import pytest
from image_files import message

from captum_softcam.data._disk.tables import number_in, read_lines, read_table

ROWS = [{"name": "ä, b", "x": "1"}, {"name": "c", "x": "2"}]


def read(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "t.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    columns, rows = read_table(path)
    return columns, [row.cells for row in rows]


class TestRead:
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
    @pytest.mark.parametrize(
        "text",
        [
            'name,x\n"ä, b",1\nc,2\n',
            "name;x\nä, b;1\nc;2",
            "name\tx\r\nä, b\t1\r\nc\t2\r\n",
            'name,x\r"ä, b",1\rc,2\r',
            "\n\n name ; x ;;\n ä, b ; 1;;\n;;;\n\nc;2;;\n",
            '"name","x"\n"ä, b","1"\n"c","2"\n',
            "sep=;\nname;x\nä, b;1\nc;2\n",
        ],
    )
    def test_what_programs_write(self, tmp_path, text, encoding):
        assert read(tmp_path, text, encoding) == (["name", "x"], ROWS)

    @pytest.mark.parametrize(
        ("header", "columns"),
        [
            ('"a, b";"c"', ["a, b", "c"]),
            ('"a; b","c"', ["a; b", "c"]),
            ("a, b\tc", ["a, b", "c"]),
            ("name", ["name"]),
            (",a,b", ["", "a", "b"]),
            ("", []),
        ],
    )
    def test_the_header_decides(self, tmp_path, header, columns):
        assert read(tmp_path, header)[0] == columns

    def test_lines_are_those_of_the_file(self, tmp_path):
        path = tmp_path / "t.csv"
        path.write_text('\na,b\n\n"1\n2",3\n4,5\n')
        assert [row.place for row in read_table(path)[1]] == [f"line 5 of '{path}'", f"line 6 of '{path}'"]

    @pytest.mark.parametrize("row", ["1", "1,2,3", "1,2,,4"])
    def test_cells_too_many_and_too_few(self, tmp_path, row):
        text = message(ValueError, lambda: read(tmp_path, f"a,b\n{row}\n"))
        assert text == f"line 2 of '{tmp_path}/t.csv' does not have the 2 columns of the header."

    def test_latin_1(self, tmp_path):
        text = message(ValueError, lambda: read(tmp_path, "name,x\nä,1\n", "latin-1"))
        assert text.startswith(
            f"table '{tmp_path}/t.csv' cannot be read as CSV in UTF-8 ('utf-8' codec can't decode byte 0xe4"
        )
        assert text.endswith('encoding of one language: save it as UTF-8, in Excel as "CSV UTF-8".')

    def test_a_list(self, tmp_path):
        path = tmp_path / "l.txt"
        path.write_bytes("# head\r\n\r\nmy cat  1 \r\nb\r\n".encode("utf-16"))
        assert [(line.place, line.text) for line in read_lines(path)] == [
            (f"line 3 of '{path}'", "my cat  1"),
            (f"line 4 of '{path}'", "b"),
        ]


@pytest.mark.parametrize(
    ("header", "cell", "value"),
    [
        ("a,b", "1.5", 1.5),
        ("a,b", '"1,5"', "1,5"),
        ("a;b", "1,5", 1.5),
        ("a;b", "1.5", 1.5),
        ("a;b", "1.000,5", "1.000,5"),
        ("a\tb", "1,5", "1,5"),
        ("a,b", "nan", None),
        ("a,b", "None", None),
        ("a,b", "<NA>", None),
        ("a,b", "", None),
        ("a,b", "inf", "inf"),
        ("a,b", "1_0", "1_0"),
    ],
)
def test_numbers(tmp_path, header, cell, value):
    path = tmp_path / "t.csv"
    path.write_text(f"{header}\nx{header[1]}{cell}\n")
    assert number_in(read_table(path)[1][0], "b") == value
