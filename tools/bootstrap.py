"""Makes .venv from the locks: `make setup` starts here, on a machine that has only python3.

Standard library only, and no syntax newer than Python 3.8, because this runs on whatever python3 is there.

    uv                on PATH, else installed into .venv-tools (with hashes, from locks/tools.txt)
    .venv             Python 3.11 to 3.13: the machine's own when it fits, else one that uv fetches
    packages          locks/dev.txt with hashes; locks/node.txt too when the machine has no npm
    poolwright        installed editable, built by the hatchling of the lock: no network
    bytecode          compiled here, because the daemons' start is mostly imports, and some machines are told
                      not to write bytecode on the way (PYTHONDONTWRITEBYTECODE)

Each part is safe to interrupt and to repeat. A stamp in .venv holds the hash of all that it was made from;
while it fits, this program does nothing, and needs no network.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
TOOLS = ROOT / ".venv-tools"
STAMP = VENV / ".poolwright-stamp"
LOCKS = ROOT / "locks"
PYTHON = ">=3.11,<3.14"  # coincurve has no wheel for 3.14 yet


def main() -> None:
    """Bring .venv up to date with the locks; nothing when it is."""
    packages = [LOCKS / "dev.txt"] + ([] if has_npm() else [LOCKS / "node.txt"])
    wanted = fingerprint([*packages, ROOT / "pyproject.toml", Path(__file__)])
    if is_current(wanted):
        return
    started = time.monotonic()
    uv = find_uv()
    if not (VENV / "bin/python").exists():
        say("Creating .venv ...")
        run(uv, "venv", "--quiet", "--allow-existing", "--python", PYTHON, VENV)
    say("Installing the locked packages into .venv ...")
    target = ("--python", str(VENV / "bin/python"))
    run(uv, "pip", "sync", "--require-hashes", "--compile-bytecode", *target, *packages)
    run(
        uv,
        "pip",
        "install",
        "--quiet",
        "--offline",
        "--no-deps",
        "--no-build-isolation",
        *target,
        "--editable",
        ROOT,
    )
    run(VENV / "bin/python", "-m", "compileall", "-q", ROOT / "src")
    STAMP.write_text(wanted)
    say(f"Python environment ready after {time.monotonic() - started:.0f} s.")


def fingerprint(files: "list[Path]") -> str:
    """Hash of everything from which the environment is made."""
    digest = hashlib.sha256(str(ROOT).encode())
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def is_current(wanted: str, stamp: Path = STAMP) -> bool:
    """Whether .venv was completed from exactly these locks, here, and its Python still runs."""
    if not stamp.exists() or stamp.read_text() != wanted or not (VENV / "bin/poolwright").exists():
        return False
    return subprocess.run([str(VENV / "bin/python"), "-c", ""], stderr=subprocess.DEVNULL).returncode == 0


def has_npm() -> bool:
    return bool(shutil.which("npm") and shutil.which("node"))


def find_uv() -> str:
    """uv from PATH, or our own in .venv-tools, installed first when missing."""
    own = TOOLS / "bin/uv"
    on_path = shutil.which("uv")
    if on_path and subprocess.run([on_path, "--version"], capture_output=True).returncode == 0:
        return on_path
    if not own.exists():
        say("Installing uv into .venv-tools ...")
        make_tools_venv()
        pip = (str(TOOLS / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
        run(*pip, "install", "--require-hashes", "--requirement", LOCKS / "tools.txt")
    return str(own)


def make_tools_venv() -> None:
    """A venv with pip; on Debian and Ubuntu that may take one more system package."""
    if not has_ensurepip():
        commands = commands_for_venv(is_root=os.geteuid() == 0, has_apt=bool(shutil.which("apt-get")))
        say("Installing the system package python3-venv with apt-get ...")
        for words in commands:
            run(*words, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    shutil.rmtree(TOOLS, ignore_errors=True)
    run(sys.executable, "-m", "venv", TOOLS)


def has_ensurepip() -> bool:
    """Debian splits ensurepip off into python3-venv; a venv without it has no pip."""
    return (
        subprocess.run([sys.executable, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
    )


def commands_for_venv(is_root: bool, has_apt: bool) -> "list[tuple[str, ...]]":
    """What to run so that this python3 has ensurepip; ends with what to type where we may not."""
    if not is_root or not has_apt:
        raise SystemExit(
            "This python3 cannot make virtual environments (no ensurepip). Type, then try again:\n"
            "  sudo apt-get update\n"
            "  sudo apt-get install -y python3-venv"
        )
    return [
        ("apt-get", "-qq", "update"),
        ("apt-get", "-qq", "install", "-y", "--no-install-recommends", "python3-venv"),
    ]


def run(*command: object, env: "dict[str, str] | None" = None) -> None:
    """Run one command; its own words have told what is wrong when it fails."""
    words = [str(word) for word in command]
    environment = {key: value for key, value in (env or os.environ).items() if key != "VIRTUAL_ENV"}
    code = subprocess.run(words, cwd=str(ROOT), env=environment).returncode
    if code != 0:
        raise SystemExit(
            f"set-up stopped: `{' '.join(words)}` ended with exit code {code}; run it again after a look"
        )


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit("\nset-up interrupted; run it again to continue") from None
