"""The set-up script: what it does on which machine, and that an old python3 can read it."""

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "tools/bootstrap.py"


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_python_3_8_can_read_it() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 8))


def test_user_without_ensurepip_gets_the_two_lines_to_type(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match="sudo apt-get update\n  sudo apt-get install -y python3-venv"):
        bootstrap.commands_for_venv(is_root=False, has_apt=True)


def test_root_without_apt_gets_no_command_that_is_not_there(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match="no ensurepip"):
        bootstrap.commands_for_venv(is_root=True, has_apt=False)


def test_root_on_debian_gets_python3_venv_installed(bootstrap: ModuleType) -> None:
    update, install = bootstrap.commands_for_venv(is_root=True, has_apt=True)

    assert update[0] == install[0] == "apt-get"
    assert install[-1] == "python3-venv"


def test_changed_lock_asks_for_a_new_environment(bootstrap: ModuleType, tmp_path: Path) -> None:
    lock = tmp_path / "dev.txt"
    lock.write_text("a==1")
    before = bootstrap.fingerprint([lock])
    lock.write_text("a==2")

    assert bootstrap.fingerprint([lock]) != before


def test_interrupted_set_up_is_not_taken_for_complete(bootstrap: ModuleType, tmp_path: Path) -> None:
    stamp = tmp_path / "stamp"
    assert not bootstrap.is_current("wanted", stamp)

    stamp.write_text("older")
    assert not bootstrap.is_current("wanted", stamp)


def test_failing_command_is_named(bootstrap: ModuleType) -> None:
    with pytest.raises(SystemExit, match="`false` ended with exit code 1"):
        bootstrap.run("false")


def test_locks_have_hashes_and_name_no_registry() -> None:
    for lock in (SCRIPT.parent.parent / "locks").glob("*.txt"):
        text = lock.read_text()
        pins = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]

        assert pins
        assert all("==" in pin and pin.endswith("\\") for pin in pins), lock
        assert "--hash=sha256:" in text
        assert "://" not in text
        assert "index" not in text
