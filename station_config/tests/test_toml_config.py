"""Loading a file: all faults at once, each where it stands, nothing secret repeated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import Field

from station_config.errors import ConfigurationError
from station_config.toml_config import Fault, Several, StrictModel, Table, load, locate, parse, repeated, rows


class Port(StrictModel):
    name: str
    baud: int = Field(default=9600, ge=1200)


class Plant(StrictModel):
    title: str
    password: str = ""
    ports: Several[Port] = ()


def _names_once(data: Table) -> Iterator[Fault]:
    return repeated((((*path, "name"), row.get("name")) for path, row in rows(data, "ports")), "this name")


FAULTY = """\
pasword = "hunter2"   # line 1
password = 42

[[ports]]
name = "a"
baud = 300

[[ports]]
name = "a"
baud = "9600"
"""


def test_every_fault_is_named_with_its_line_in_one_go() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(FAULTY, Plant, "plant.toml", _names_once)
    assert str(caught.value).splitlines() == [
        "plant.toml:1: pasword: unknown key; remove it or correct its spelling",
        "plant.toml:1: title: this key is missing",
        "plant.toml:2: password: Input should be a valid string",
        "plant.toml:6: ports[0].baud: Input should be greater than or equal to 1200",
        "plant.toml:9: ports[1].name: this name is used twice, first at ports[0]",
        "plant.toml:10: ports[1].baud: Input should be a valid integer",
    ]


def test_no_value_is_repeated_since_it_may_be_a_secret() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse('title = 1\npasswort = "hunter2"\nports = "hunter2"\n', Plant, "plant.toml")
    assert "hunter2" not in str(caught.value)


def test_a_right_file_becomes_a_frozen_model(tmp_path: Path) -> None:
    path = tmp_path / "plant.toml"
    path.write_text('title = "Bến"\nports = [{ name = "a" }]\n', encoding="utf-8")
    assert load(path, Plant) == Plant(title="Bến", ports=(Port(name="a"),))


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"title = \n", "not TOML: Invalid value (at line 1, column 9)"),
        (b"title = 'x'\ntitle = 'y'\n", "not TOML: Cannot overwrite a value (at line 2, column 12)"),
        ("title = 'Bến'".encode("utf-16"), "not UTF-8 text (byte 0); save it as UTF-8"),
    ],
)
def test_what_is_no_toml_says_where(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "plant.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(path, Plant)
    assert str(caught.value) == f"{path}: {complaint}"


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load(tmp_path / "absent.toml", Plant)


LAYOUT = '''\
a = 1
[b]
text = """
fake = 2
"""
[[c]]
list = [ # elements, one a line
  { n = 1, deep = { m = 1 } },
  { n = 2 },  # a comment

  { n = 3 } ]
[[c.d]]
n = 1
[[c.d]]
"odd.key".n = 2
[[c]]
[c.e]
n = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a",), 1),
        (("b", "text"), 3),
        (("c", 0), 6),
        (("c", 0, "list", 0, "deep", "m"), 8),
        (("c", 0, "list", 1, "n"), 9),
        (("c", 0, "list", 2), 11),
        (("c", 0, "d", 0, "n"), 13),
        (("c", 0, "d", 1, "odd.key", "n"), 15),
        (("c", 1), 16),
        (("c", 1, "e", "n"), 18),
    ],
)
def test_everything_in_a_file_has_its_line(path: tuple[str | int, ...], line: int) -> None:
    assert locate(LAYOUT)[path] == line


def test_what_only_looks_like_a_key_has_none() -> None:
    assert ("b", "fake") not in locate(LAYOUT)
