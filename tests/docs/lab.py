"""A place in which the commands of a page can be run: the files and devices that it speaks of."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomlkit
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from spdmkit.cli.root import run
from spdmkit.device.initialise import initialise

from .pages import ROOT, Appended, Copied, Program, Step, Written

SPDM = [sys.executable, "-m", "spdmkit"]
NVIDIA = ROOT / "tests" / "data" / "nvidia-h100"
CAPTURES = ROOT / "tests" / "data" / "captures"
SERVERS = (("device", "serve"), ("verifier", "serve"), ("proxy",))
LEARNED: dict[str, tuple[list[str], *tuple[str | int, ...]]] = {
    "3A5F...": (["ca", "show", "myca"], "certificates", 0, "serial"),
    "3f9a": (["reference", "list", "GH100"], "entries", 0, "id"),
}
"""Words of pages for what only a command can tell -> the command, and where it says so."""


def serves(words: list[str]) -> bool:
    """Whether a command goes on until it is stopped."""
    stays = any(tuple(words[: len(name)]) == name for name in SERVERS)
    return stays and "--check" not in words and "--status" not in words


def set_keys(path: Path, tables: dict[str, Any]) -> None:
    """Set keys in the tables of a TOML file."""
    document: dict[str, Any] = tomlkit.parse(path.read_text()).unwrap()
    for name, table in tables.items():
        document[name].update(table)
    path.write_text(tomlkit.dumps(document))


def spdm(*words: str | Path) -> None:
    """Run a command that has to succeed."""
    code = run([str(word) for word in words])
    assert code in (0, 4), words


@dataclass(slots=True)
class Running:
    """A server, and where it is."""

    process: subprocess.Popen[str]
    listening: dict[str, str]

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        self.process.terminate()
        self.process.wait(timeout=30)
        if self.process.stdout is not None:
            self.process.stdout.close()


def start(words: list[str], folder: Path) -> Running:
    """Start a server with free ports; waits until it listens."""
    asked = [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--listen"]
    for at, word in enumerate(words):
        if word in asked:
            words[at] = re.sub(r"(//)[^:/]*:\d+$", r"\g<1>127.0.0.1:0", word)
    process = subprocess.Popen(
        [*SPDM, *words], cwd=folder, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    running = Running(process, {})
    for uri in asked:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            running.stop()
            raise AssertionError(f"spdm {' '.join(words)}: {line!r}")
        running.listening[uri] = line.removeprefix("listening on ").split()[0]
    return running


@dataclass(slots=True)
class Lab:
    """A folder with everything that pages take for granted.

    Attributes:
        folder: where commands run.
        known: texts of the pages -> what stands for them here.
        servers: by the address that the page gives.
        names: what programs of the page have defined.
    """

    folder: Path
    known: dict[str, str]
    servers: dict[str, Running] = field(default_factory=dict)
    names: dict[str, Any] = field(default_factory=dict)

    def put(self, text: str) -> str:
        """A word of a command, with what stands for it here."""
        if text in LEARNED:
            return self._ask(*LEARNED[text])
        for shown, real in self.known.items():
            text = text.replace(shown, real)
        for uri, server in self.servers.items():
            text = text.replace(uri, server.listening[uri].partition("?")[0])
        return text

    def _ask(self, words: list[str], *keys: str | int) -> str:
        """A value that only a command can tell."""
        done = subprocess.run(
            [*SPDM, *words, "--json"],
            cwd=self.folder,
            env={**os.environ, **self._variables()},
            capture_output=True,
            check=True,
        )
        value = json.loads(done.stdout)
        for key in keys:
            value = value[key]
        return str(value)

    def _variables(self) -> dict[str, str]:
        """Nothing of whoever runs the tests is read or written."""
        return {"HOME": str(self.folder), "SPDM_REFERENCE_STORE": str(self.folder / "store")}

    def perform(self, step: Step) -> int:
        """Do what stands on the page; gives the exit code."""
        if isinstance(step, Written):
            self._write(step)
            return 0
        if isinstance(step, Copied):
            shutil.copy(self.folder / step.source, self.folder / step.target)
            return 0
        if isinstance(step, Appended):
            with (self.folder / step.path).open("a") as file:
                print(step.line, file=file)
            return 0
        if isinstance(step, Program):
            self._execute(step.text)
            return 0
        words = [self.put(word) for word in step.words]
        with chdir(self.folder), _environment({**self._variables(), **step.environment}):
            if step.background or serves(step.words):
                self._serve(step.words)
                return 0
            if "init" in words[:2]:
                self._make_room(words)
            with _standard_input(step.stdin):
                return run(words)

    def _execute(self, text: str) -> None:
        """Run a program, which may await at its top level."""
        code = compile(self.put(text), "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with chdir(self.folder), _environment(self._variables()):
            waiting = eval(code, self.names)
            if inspect.iscoroutine(waiting):
                asyncio.run(waiting)

    def _make_room(self, words: list[str]) -> None:
        """Pages make what the pantry has already; the identity that its device knows stays."""
        at = words.index("init") + 1
        if words[at] == "me":
            words[at] = "me-too"
        shutil.rmtree(words[at], ignore_errors=True)

    def _serve(self, words: list[str]) -> None:
        for at, word in enumerate(words[:-1]):
            if word == "--listen" and words[at + 1] in self.servers:
                self.servers.pop(words[at + 1]).stop()
        server = start([self.put(word) for word in words], self.folder)
        for at, word in enumerate(words[:-1]):
            if word == "--listen":
                uri = self.put(words[at + 1])
                self.servers[words[at + 1].partition("?")[0]] = Running(
                    server.process, {words[at + 1].partition("?")[0]: server.listening[uri]}
                )

    def _write(self, step: Written) -> None:
        path = self.folder / step.path
        text = self.put(step.text)
        if not path.exists():
            path.write_text(text)
            return
        set_keys(path, tomlkit.parse(text).unwrap())

    def stop(self) -> None:
        """End all servers."""
        for server in self.servers.values():
            server.stop()
        self.servers.clear()


@contextmanager
def _standard_input(text: str) -> Iterator[None]:
    """Standard input with a line in it, or with nothing; also for who opens descriptor 0."""
    reading, writing = os.pipe()
    if text:
        os.write(writing, text.encode() + b"\n")
    os.close(writing)
    kept, before = os.dup(0), sys.stdin
    os.dup2(reading, 0)
    os.close(reading)
    sys.stdin = os.fdopen(os.dup(0))
    try:
        yield
    finally:
        sys.stdin.close()
        sys.stdin = before
        os.dup2(kept, 0)
        os.close(kept)


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@dataclass(slots=True)
class Pantry:
    """What the labs of all pages take from: made once.

    Attributes:
        folder: files with the names that pages use.
        device: a device that all can be done with; pages know it as 192.0.2.7.
        other: one that is known by its pre-shared key: 192.0.2.8.
        name: SPDM name of the first.
    """

    folder: Path
    device: Running
    other: Running
    name: str

    def stop(self) -> None:
        """End the devices."""
        self.device.stop()
        self.other.stop()

    def lab(self, folder: Path) -> Lab:
        """A folder for one page."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for source in (*NVIDIA.iterdir(), CAPTURES / "spdm-emu-mctp.pcap"):
            shutil.copy(source, folder)
        known = {
            "tcp://192.0.2.7": self.device.listening["tcp://127.0.0.1:0"],
            "tcp://192.0.2.8": self.other.listening["tcp://127.0.0.1:0"],
            "ACME:NIC:0001": self.name,
            "/tmp/dev.tty": str(folder / "dev.tty"),
        }
        return Lab(folder, known)


def stock(folder: Path) -> Pantry:
    """Make a device, an identity of a requester, keys, evidence in all forms, a capture."""
    initialise(folder / "mydevice", algorithm="ecdsa-p256", serial="0001")
    initialise(folder / "me", algorithm="ecdsa-p256", requester=True)
    initialise(folder / "rim", algorithm="ecdsa-p256")
    shutil.copy(folder / "me" / "trust-anchor.pem", folder / "mydevice" / "requesters.pem")
    everybody = ["certificate:*", "psk:*"]
    trust = {
        "requester_trust_anchors": ["requesters.pem"],
        "may_provision": everybody,
        "may_set_reference": everybody,
    }
    set_keys(folder / "mydevice" / "device.toml", {"trust": trust})
    device = folder / "mydevice"
    for source, name in (
        ("trust-anchor.pem", "root.pem"),
        ("trust-anchor.pem", "acme-root.pem"),
        ("reference.json", "nic.json"),
        ("psk.toml", "psk.toml"),
    ):
        shutil.copy2(device / source, folder / name)
    initialise(folder / "other", algorithm="ecdsa-p256", serial="0008")
    shutil.copy2(folder / "other" / "psk.toml", folder / "nic-8.toml")
    (folder / "firmware.bin").write_bytes(b"firmware" * 1000)
    for name in ("site.toml", "policy.toml"):
        (folder / name).write_text('[policy]\nname = "site"\nversion = 1\nnot_after = 2099-01-01\n')
    for source, name in (
        ("trust-anchor.pem", "rim-root.pem"),
        ("slots/0.pem", "rim-chain.pem"),
        ("keys/1.pem", "rim.pem"),
    ):
        shutil.copy2(folder / "rim" / source, folder / name)
    key_pair(folder / "verifier")
    listen = ["--listen", "tcp://127.0.0.1:0"]
    servers = [start(["device", "serve", name, *listen], folder) for name in ("mydevice", "other")]
    pantry = Pantry(folder, servers[0], servers[1], "spdmkit:software-device:0001")
    try:
        collect(folder, servers[0].listening["tcp://127.0.0.1:0"])
    except BaseException:
        pantry.stop()
        raise
    return pantry


def collect(folder: Path, uri: str) -> None:
    """Evidence in all its forms, a capture with its key log."""
    known = (uri, "--trust-anchor", "root.pem")
    with chdir(folder), _environment({"SPDMKEYLOGFILE": "debug.log"}):
        spdm("attest", *known, "--session", "--capture", "capture.pcapng")
    with chdir(folder), _environment({}):
        spdm("attest", *known, "--evidence", "nic.cbor")
        exported = ("--redfish", "response.json", "--chain", "chain.pem")
        spdm("evidence", "export", "nic.cbor", *exported, "--measurements", "report.hex")
        signed = ("--signing-key", "rim.pem", "--certificates", "rim-chain.pem")
        spdm(
            "reference", "convert", "nic.json", "gpu.corim", *signed, "--valid-until", "2099-01-01"
        )


def key_pair(path: Path) -> None:
    """`NAME.pem`, a private key for its owner only, and `NAME.pub`."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with_suffix = path.with_suffix(".pem")
    with_suffix.touch(mode=0o600)
    with_suffix.write_bytes(private)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    path.with_suffix(".pub").write_bytes(public)
