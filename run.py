"""Sets the project up and runs it: one file, the standard library, nothing else done before.

    python3 run.py demo            make a software device, serve it, attest it
    python3 run.py test [ARGS]     lint, types, layers and tests; ARGS go to pytest
    python3 run.py test -O [ARGS]  the tests as `python -O` runs them: no check may be an assert
    python3 run.py check           lint, types and layers only
    python3 run.py spdm ARGS       the command line, for example: spdm attest tcp://HOST ...
    python3 run.py setup           only prepare .venv, with the tools for development
    python3 run.py docs            build the documentation into site/, warnings are errors
    python3 run.py build           build wheel and sdist into dist/, with manual pages
    python3 run.py sbom            list in dist/spdmkit.cdx.json what a release consists of
    python3 run.py test-package    build, install into an empty environment, run it there
    python3 run.py lock            renew the pinned requirements after a change in pyproject.toml

The first run makes .venv beside this file and installs the pinned, hashed requirements into it;
later runs find a stamp there and start at once.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

OLDEST_PYTHON = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / "bin"
PYTHON = BIN / "python"
STAMP = VENV / "spdmkit-setup.json"
REQUIREMENTS = ROOT / "requirements"
PROJECT_FILE = ROOT / "pyproject.toml"
BUILD = ROOT / "build"
DIST = ROOT / "dist"
MANUAL = BUILD / "man"
UV = "uv==0.13.9"
MOST_TEST_PROCESSES = 4

CHECKS = (
    ("ruff check", ["ruff", "check", "."]),
    ("ruff format", ["ruff", "format", "--check", "."]),
    ("mypy", ["mypy"]),
    ("import-linter", ["lint-imports"]),
)


class SetupError(Exception):
    """What keeps us from running, in words for the person at the terminal."""


def main(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print((__doc__ or __file__).strip())
        return 0 if arguments else 2
    name, *rest = arguments
    command = COMMANDS.get(name)
    if command is None:
        print(f"run.py: there is no command {name!r}; see python3 run.py --help", file=sys.stderr)
        return 2
    try:
        check_python()
        return command(rest)
    except SetupError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


# --- commands -----------------------------------------------------------------------------------


def run_spdm(arguments: Sequence[str]) -> int:
    """Become `spdm ARGUMENTS`, so that signals reach it."""
    prepare("runtime")
    sys.stdout.flush()
    os.execv(PYTHON, [str(PYTHON), "-m", "spdmkit", *arguments])  # noqa: S606 - no shell wanted


def run_demo(arguments: Sequence[str]) -> int:
    """Become `spdm demo`."""
    return run_spdm(["demo", *arguments])


def run_setup(arguments: Sequence[str]) -> int:
    """Prepare .venv with everything."""
    refuse_arguments("setup", arguments)
    prepare("dev")
    say(f"ready: {BIN / 'spdm'}")
    return 0


def run_check(arguments: Sequence[str]) -> int:
    """Run all static checks, each even when another failed."""
    refuse_arguments("check", arguments)
    prepare("dev")
    return report(static_checks())


def run_test(arguments: Sequence[str]) -> int:
    """Run the static checks, then pytest, whose summary is the last thing on stdout."""
    prepare("dev")
    environment = dict(os.environ)
    failed = []
    if arguments[:1] == ["-O"]:
        # By the environment, so that every process that a test starts is optimised too.
        arguments, environment["PYTHONOPTIMIZE"] = arguments[1:], "1"
    else:
        failed = static_checks()
    pytest = [str(PYTHON), "-m", "pytest", *arguments]
    if not arguments:
        pytest += ["-n", str(min(os.cpu_count() or 1, MOST_TEST_PROCESSES))]
    say("pytest")
    code = subprocess.call(pytest, cwd=ROOT, env=environment)
    return report(failed) or code


def run_lock(arguments: Sequence[str]) -> int:
    """Resolve anew for all platforms and Pythons, and write the pinned files."""
    refuse_arguments("lock", arguments)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "install", "--quiet", UV]
        if subprocess.call(pip) != 0:
            raise SetupError(f"could not install {UV}, which resolves the requirements")
        compile_requirements = [
            *(f"{folder}/bin/uv", "pip", "compile", "--quiet", "--upgrade", "--universal"),
            *("--python-version", ".".join(map(str, OLDEST_PYTHON)), "--system-certs"),
            *("--generate-hashes", "--no-header", "--no-emit-index-url", "--no-annotate"),
        ]
        project = ["pyproject.toml", "requirements/build.in"]
        dev = str(REQUIREMENTS / "dev.txt")
        runtime = str(REQUIREMENTS / "runtime.txt")
        release = str(REQUIREMENTS / "release.txt")
        for command in (
            [*compile_requirements, *project, "--all-extras", "--output-file", dev],
            # The runtime set is the same versions, fewer packages.
            [*compile_requirements, *project, "--constraint", dev, "--output-file", runtime],
            [*compile_requirements, "requirements/release.in", "--output-file", release],
        ):
            if subprocess.call(command, cwd=ROOT) != 0:
                raise SetupError("the requirements could not be resolved")
    say("the files of requirements/ are renewed")
    return 0


def run_docs(arguments: Sequence[str]) -> int:
    """Build the site."""
    refuse_arguments("docs", arguments)
    prepare("dev")
    sphinx = [str(PYTHON), "-m", "sphinx", "-b", "html", "-W", "--keep-going", "--quiet"]
    code = subprocess.call([*sphinx, "-d", str(BUILD / "docs"), "docs", "site"], cwd=ROOT)
    if code == 0:
        say(f"ready: {ROOT / 'site' / 'index.html'}")
    return code


def run_build(arguments: Sequence[str]) -> int:
    """Build wheel and sdist with the pinned tools; manual pages come from the commands."""
    refuse_arguments("build", arguments)
    prepare("dev")
    shutil.rmtree(MANUAL, ignore_errors=True)
    manual = [str(PYTHON), "-m", "spdmkit", "man", "--output", str(MANUAL)]
    build = [str(PYTHON), "-m", "build", "--no-isolation", "--outdir", str(DIST), str(ROOT)]
    return subprocess.call(manual) or subprocess.call(build, cwd=ROOT)


def run_test_package(arguments: Sequence[str]) -> int:
    """Install wheel and sdist into environments that have nothing else, and use them there."""
    refuse_arguments("test-package", arguments)
    code = run_build([])
    for pattern in ("*.whl", "*.tar.gz"):
        if code == 0:
            with released(newest(pattern)) as folder:
                code = exercise(Path(folder))
    return code


def run_sbom(arguments: Sequence[str]) -> int:
    """List what an installed release consists of, with versions, licences and hashes."""
    refuse_arguments("sbom", arguments)
    code = run_build([])
    if code != 0:
        return code
    with released(newest("*.whl")) as folder, tempfile.TemporaryDirectory() as tools:
        subprocess.run([sys.executable, "-m", "venv", tools], check=True)
        locked = ("--require-hashes", "-r", str(REQUIREMENTS / "release.txt"))
        pip("--no-deps", *locked, python=f"{tools}/bin/python")
        listing = DIST / "spdmkit.cdx.json"
        cyclonedx = [f"{tools}/bin/cyclonedx-py", "environment", "--output-reproducible"]
        options = ["--pyproject", str(PROJECT_FILE), "--mc-type", "application"]
        output = ["--output-format", "JSON", "--output-file", str(listing)]
        code = subprocess.call([*cyclonedx, *options, *output, f"{folder}/bin/python"])
    if code == 0:
        keep_what_runs(listing)
        say(f"ready: {listing}")
    return code


def keep_what_runs(listing: Path) -> None:
    """Take out of a CycloneDX document what spdmkit does not need: installer and build tools."""
    document = json.loads(listing.read_text())
    needs = {each["ref"]: each.get("dependsOn", []) for each in document["dependencies"]}
    root = document["metadata"]["component"]["bom-ref"]
    reached, waiting = {root}, [root]
    while waiting:
        found = set(needs[waiting.pop()]) - reached
        reached |= found
        waiting += found
    for name, key in (("components", "bom-ref"), ("dependencies", "ref")):
        document[name] = [each for each in document[name] if each[key] in reached]
    listing.write_text(json.dumps(document, indent=2) + "\n")


@contextlib.contextmanager
def released(package: Path) -> Iterator[str]:
    """A fresh environment with a package and its pinned requirements; gives its folder."""
    with tempfile.TemporaryDirectory() as folder:
        say(f"installing {package.name} into an empty environment")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        pip("--no-deps", "--require-hashes", "-r", str(REQUIREMENTS / "runtime.txt"), python=python)
        pip("--no-deps", "--no-index", "--no-build-isolation", str(package), python=python)
        yield folder


def exercise(folder: Path) -> int:
    """What has to work in it: the command line, the demo, its manual, types for a program."""
    spdm = str(folder / "bin" / "spdm")
    manual = folder / "share" / "man" / "man1" / "spdm.1"
    marker = next(folder.glob("lib/python*/site-packages/spdmkit/py.typed"), None)
    if not manual.exists() or marker is None:
        raise SetupError("the package has no manual page, or no type information")
    with tempfile.TemporaryDirectory() as elsewhere:
        for command in (["--version"], ["demo"], ["wireshark", "show"], ["completion", "bash"]):
            say("spdm " + " ".join(command))
            done = subprocess.run([spdm, *command], cwd=elsewhere, capture_output=True, check=False)
            if done.returncode != 0:
                print(done.stderr.decode(errors="replace"), file=sys.stderr)
                return 1
    say("it works")
    return 0


def newest(pattern: str) -> Path:
    """The file of dist/ that was built last."""
    return max(DIST.glob(pattern), key=lambda path: path.stat().st_mtime)


COMMANDS = {
    "demo": run_demo,
    "test": run_test,
    "check": run_check,
    "spdm": run_spdm,
    "docs": run_docs,
    "build": run_build,
    "sbom": run_sbom,
    "test-package": run_test_package,
    "setup": run_setup,
    "lock": run_lock,
}


def static_checks() -> list[str]:
    """Run each check; returns the names of those that failed."""
    failed = []
    for name, command in CHECKS:
        say(name)
        if subprocess.call([str(BIN / command[0]), *command[1:]], cwd=ROOT) != 0:
            failed.append(name)
    return failed


def report(failed: Sequence[str]) -> int:
    """Name the failed checks on stderr; 1 when there are any."""
    if failed:
        say("failed: " + ", ".join(failed))
    return 1 if failed else 0


def refuse_arguments(name: str, arguments: Sequence[str]) -> None:
    """Some commands take none."""
    if arguments:
        raise SetupError(f"{name} takes no arguments, but got {' '.join(arguments)}")


def say(text: str) -> None:
    """Progress goes to stderr, in order with what the tools print."""
    sys.stdout.flush()
    print(f"run.py: {text}", file=sys.stderr, flush=True)


# --- set-up -------------------------------------------------------------------------------------


def check_python() -> None:
    """Refuse a Python that is too old, and name a newer one when there is one."""
    if sys.version_info >= OLDEST_PYTHON:
        return
    needed = ".".join(map(str, OLDEST_PYTHON))
    newer = [name for name in (f"python3.{minor}" for minor in range(20, 10, -1)) if which(name)]
    hint = f"try {newer[0]} run.py" if newer else "install a newer Python and run it with that"
    raise SetupError(f"needs Python {needed} or newer, this is {sys.version.split()[0]}; {hint}")


def which(name: str) -> bool:
    """True when there is a working program of that name; version managers leave dead shims."""
    path = shutil.which(name)
    return (
        path is not None
        and subprocess.call(
            [path, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        == 0
    )


def prepare(group: str) -> None:
    """See to it that .venv holds the `group` of requirements and the project itself."""
    with one_at_a_time():
        wanted = describe(group)
        if installed() in (wanted, describe("dev")) and python_works():
            return
        make_venv()
        say(f"installing the pinned requirements ({group}) into .venv; this happens once")
        # Complete and hashed, so there is nothing left to resolve.
        pip("--no-deps", "--require-hashes", "-r", str(REQUIREMENTS / f"{group}.txt"))
        pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        STAMP.write_text(json.dumps(wanted))


def describe(group: str) -> dict[str, str]:
    """What .venv must have been made from, for the stamp to hold."""
    requirements = REQUIREMENTS / f"{group}.txt"
    if not requirements.exists():
        raise SetupError(f"{requirements} is missing; make it with: python3 run.py lock")
    digest = hashlib.sha256(requirements.read_bytes() + PROJECT_FILE.read_bytes())
    return {"group": group, "made from": digest.hexdigest(), "root": str(ROOT)}


def installed() -> object:
    """The stamp of the last complete set-up, or None."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return None


def python_works() -> bool:
    """True when .venv's interpreter runs and is new enough (it may have gone with an update)."""
    test = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
    try:
        return subprocess.call([str(PYTHON), "-c", test], stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def make_venv() -> None:
    """Make .venv, or repair it; one that cannot run is made from scratch."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise SetupError(
                f"this Python has no module {module!r}; on Debian and Ubuntu: "
                "apt install python3-venv"
            )
    command = [sys.executable, "-m", "venv"]
    if VENV.exists() and not python_works():
        command.append("--clear")
    say(f"making .venv with Python {sys.version.split()[0]}")
    if subprocess.call([*command, str(VENV)]) != 0:
        raise SetupError(f"{sys.executable} could not make {VENV}; what it said stands above")


def pip(*arguments: str, python: str = str(PYTHON)) -> None:
    """Install with the pip of an environment, by default .venv."""
    options = ("install", "--quiet", "--disable-pip-version-check", "--no-input")
    if subprocess.call([python, "-m", "pip", *options, *arguments]) != 0:
        raise SetupError(
            "pip could not install what is needed; what it said stands above. Without a way to "
            "the package index, point pip at a mirror (PIP_INDEX_URL), a proxy (HTTPS_PROXY) or "
            "a folder of wheels (PIP_FIND_LINKS, PIP_NO_INDEX), then run this again"
        )


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Two set-ups at once in one tree would spoil each other: the second waits."""
    import fcntl  # noqa: PLC0415 - missing where we do not run; the old-Python message comes first

    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
