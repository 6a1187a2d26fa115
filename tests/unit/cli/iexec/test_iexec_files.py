"""The project folder's files: read strictly, written in one step, kept as the official client has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from poolwright.cli.iexec import files
from poolwright.cli.iexec.errors import IexecError, ValidationError

APP = "0x59C9811AFD2D1a85CE46A3Ef1a7Cd92F36dDa200"
POOL = "0x8C3eD5749ac8b8B39fAf17da38a6B0eeA1dDE038"


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(IexecError) as caught:
        files.read_json(tmp_path, "chain.json")

    assert caught.value.what == 'Missing "chain.json" file, did you forget to run "iexec init"?'


def test_broken_json_names_place_and_file(tmp_path: Path) -> None:
    (tmp_path / "iexec.json").write_text('{"app": }')

    with pytest.raises(IexecError) as caught:
        files.read_project(tmp_path)

    assert caught.value.what == "Expecting value: line 1 column 9 (char 8) in iexec.json"


def test_written_json_has_two_spaces_and_no_last_newline(tmp_path: Path) -> None:
    files.write_json(tmp_path, "iexec.json", {"author": "Zoë", "social": {}})

    assert (tmp_path / "iexec.json").read_text() == '{\n  "author": "Zoë",\n  "social": {}\n}'


def test_writing_keeps_the_mode_of_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "iexec.json"
    path.write_text("{}")
    path.chmod(0o600)

    files.write_json(tmp_path, "iexec.json", {"a": 1})

    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_writing_through_a_link_changes_its_target(tmp_path: Path) -> None:
    target, link = tmp_path / "shared.json", tmp_path / "chain.json"
    target.write_text("{}")
    link.symlink_to(target)

    files.write_json(tmp_path, "chain.json", {"default": "dev"})

    assert link.is_symlink()
    assert json.loads(target.read_text()) == {"default": "dev"}


def test_a_saved_part_leaves_the_others_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "iexec.json").write_text('{"author": "?", "buyConf": {}, "app": {"name": "old"}}')

    files.save_project_part(tmp_path, "app", {"name": "new"})

    assert files.read_project(tmp_path) == {"author": "?", "buyConf": {}, "app": {"name": "new"}}


def test_a_missing_part_names_its_init(tmp_path: Path) -> None:
    (tmp_path / "iexec.json").write_text("{}")

    with pytest.raises(IexecError, match=r"did you forget to run .iexec category init"):
        files.project_part(tmp_path, "category")


def test_the_last_deployment_of_a_kind_and_chain_wins(tmp_path: Path) -> None:
    files.save_deployed(tmp_path, "app", "31337", POOL)
    files.save_deployed(tmp_path, "app", "31337", APP)
    files.save_deployed(tmp_path, "app", "134", POOL)
    files.save_deployed(tmp_path, "workerpool", "31337", POOL)

    assert files.read_deployed(tmp_path) == {
        "app": {"31337": APP, "134": POOL},
        "workerpool": {"31337": POOL},
    }
    assert files.deployed_address(tmp_path, "dataset", "31337") is None


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"apps": {}}, 'Unknown key "apps" in deployed.json'),
        ({"app": {"31337": 5}}, "app.31337 must be a string in deployed.json"),
        ({"app": []}, "app must be an object in deployed.json"),
    ],
)
def test_a_malformed_deployed_json_is_refused(tmp_path: Path, content: object, text: str) -> None:
    (tmp_path / "deployed.json").write_text(json.dumps(content))

    with pytest.raises(ValidationError) as caught:
        files.read_deployed(tmp_path)

    assert caught.value.what == text


def test_orders_are_kept_by_chain_and_kind(tmp_path: Path) -> None:
    files.save_order(tmp_path, "31337", "apporder", {"app": APP, "sign": "0x01"})
    files.save_order(tmp_path, "31337", "apporder", {"app": APP, "sign": "0x02"})
    files.save_order(tmp_path, "134", "requestorder", {"app": APP})

    assert files.read_orders(tmp_path) == {
        "31337": {"apporder": {"app": APP, "sign": "0x02"}},
        "134": {"requestorder": {"app": APP}},
    }
    assert files.signed_order(tmp_path, "31337", "workerpoolorder") is None


def test_an_order_of_no_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "orders.json").write_text('{"31337": {"poolorder": {}}}')

    with pytest.raises(ValidationError, match=r'Unknown key "poolorder" in orders\.json'):
        files.read_orders(tmp_path)
