"""Results in the form that was asked for: JSON, a signed attestation result (EAR), or HTML.

`--result FILE` writes one beside what the terminal shows; its suffix says the form. Without it,
`--result-format` says what goes to standard output instead of the tables.
"""

from __future__ import annotations

import enum
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from spdmkit.cli.keys import load_private_key, passphrase_option
from spdmkit.errors import ConfigurationError

if TYPE_CHECKING:
    from spdmkit.attestation.outcome import AttestationResult
    from spdmkit.crypto.keys import PrivateKey

__all__ = ["Form", "Output", "output_options"]

F = TypeVar("F", bound=Callable[..., Any])
_NONCE = range(8, 65)


class Form(enum.StrEnum):
    """What a result can be written as."""

    JSON = "json"
    EAR_JWT = "ear-jwt"
    EAR_CWT = "ear-cwt"
    HTML = "html"

    @property
    def suffix(self) -> str:
        """How names of its files end."""
        return _SUFFIXES[self]

    @property
    def signed(self) -> bool:
        """It carries the verifier's signature."""
        return self in (Form.EAR_JWT, Form.EAR_CWT)


_SUFFIXES = {Form.JSON: ".json", Form.EAR_JWT: ".jwt", Form.EAR_CWT: ".cwt", Form.HTML: ".html"}

_NAMES = (
    *("results", "result_format", "signing_key", "ear_nonce", "ear_lifetime"),
    "passphrase_file",
)
_OPTIONS = (
    click.option(
        "--result",
        "results",
        type=click.Path(dir_okay=False, path_type=Path),
        multiple=True,
        help="Write the result here too: .json, .jwt, .cwt or .html.",
    ),
    click.option(
        "--result-format",
        type=click.Choice([str(form) for form in Form]),
        help="Form of the result on standard output, or of --result FILE.",
    ),
    click.option(
        "--signing-key",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="The verifier's private key, PEM, which signs results in the forms ear-jwt, ear-cwt.",
    ),
    click.option("--ear-nonce", help="The relying party's nonce for a signed result, hexadecimal."),
    click.option("--ear-lifetime", help="How long a signed result holds, like 15m or 24h."),
    passphrase_option,
)


def output_options(function: F) -> F:
    """The options of `Output`, passed on as one keyword each."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@dataclass(slots=True)
class Output:
    """Where results go and in what form; the attributes are the options.

    Attributes:
        many: results of many devices go into a folder, and a summary to standard output.
    """

    results: tuple[Path, ...]
    result_format: str | None
    signing_key: Path | None
    ear_nonce: str | None
    ear_lifetime: str | None
    passphrase_file: Path | None
    as_json: bool
    verbose: bool
    many: bool = False
    _key: PrivateKey | None = None

    @classmethod
    def taken(
        cls, options: dict[str, Any], *, as_json: bool, verbose: bool, many: bool = False
    ) -> Output:
        """Take our options out of those of a command, and check them before anything is done.

        Raises:
            ConfigurationError: they contradict each other, or a key cannot be read.
        """
        given = {name: options.pop(name) for name in _NAMES}
        made = cls(**given, as_json=as_json, verbose=verbose, many=many)
        made._check()
        return made

    @property
    def on_stdout(self) -> Form | None:
        """The form of a result on standard output; None for tables."""
        if self.many:
            return None
        if self.as_json:
            return Form.JSON
        return Form(self.result_format) if self.result_format and not self.results else None

    def form_of(self, path: Path) -> Form:
        """The form of a result file.

        Raises:
            ConfigurationError: neither its suffix nor an option says so.
        """
        if self.result_format is not None:
            return Form(self.result_format)
        for form in Form:
            if path.suffix.lower() == form.suffix:
                return form
        raise ConfigurationError(
            f"--result {path}: its suffix says no form",
            hint=f"use one of {', '.join(_SUFFIXES.values())}, or give --result-format",
        )

    @property
    def form(self) -> Form:
        """The form of each of many results."""
        return Form(self.result_format or Form.JSON)

    def _check(self) -> None:
        """Refuse what cannot be done: no key to sign with, two forms on standard output."""
        if self.many and self.results:
            raise ConfigurationError("--result is for one device", hint="--output FOLDER")
        both = self.as_json and self.result_format not in (None, Form.JSON)
        if both and not self.results and not self.many:
            raise ConfigurationError(
                f"--json and --result-format {self.result_format} both want standard output",
                hint="write one of them to a file with --result FILE",
            )
        forms = {self.form_of(path) for path in self.results}
        if self.on_stdout is not None or self.many:
            forms.add(self.on_stdout or self.form)
        if any(form.signed for form in forms):
            if self.signing_key is None:
                raise ConfigurationError(
                    "an attestation result (EAR) is signed: give the verifier's key",
                    hint="--signing-key FILE; openssl genpkey -algorithm EC "
                    "-pkeyopt ec_paramgen_curve:P-384 -out verifier.pem makes one",
                )
            self._key = load_private_key(self.signing_key, self.passphrase_file)
            self._nonce()
            self._expiry(0)
        elif self.ear_nonce or self.ear_lifetime or self.signing_key:
            raise ConfigurationError(
                "nothing is to be signed", hint="--result-format ear-jwt or ear-cwt, or --result"
            )
        if self.on_stdout is Form.EAR_CWT and sys.stdout.isatty():
            raise ConfigurationError(
                "a CWT is binary and standard output is a terminal", hint="--result FILE.cwt"
            )

    def render(self, result: AttestationResult, form: Form) -> bytes:
        """A result in a form.

        Raises:
            UnsupportedAlgorithm: documents cannot be signed with a key of this kind.
        """
        if form is Form.JSON:
            from spdmkit.attestation.results.json_result import to_json

            return to_json(result).encode() + b"\n"
        if form is Form.HTML:
            from spdmkit.attestation.results.html import to_html

            return to_html(result).encode()
        from spdmkit.attestation.results.ear import EarOptions, to_cwt, to_jwt

        if self._key is None:
            raise ConfigurationError("no key to sign the result with")
        now = int(time.time())
        options = EarOptions(now, self._expiry(now), self._nonce())
        if form is Form.EAR_JWT:
            return to_jwt(result, self._key, options).encode() + b"\n"
        return to_cwt(result, self._key, options)

    def show(self, result: AttestationResult) -> None:
        """Write the files that were asked for, and show the result on standard output."""
        from spdmkit.attestation.files import write_atomic

        for path in self.results:
            write_atomic(path, self.render(result, self.form_of(path)))
        if self.on_stdout is not None:
            click.echo(self.render(result, self.on_stdout), nl=False)
            return
        from spdmkit.cli.report import show_result

        show_result(result, verbose=self.verbose)

    def _nonce(self) -> bytes:
        if self.ear_nonce is None:
            return b""
        try:
            nonce = bytes.fromhex(self.ear_nonce)
        except ValueError:
            nonce = b""
        if len(nonce) not in _NONCE:
            raise ConfigurationError("--ear-nonce is not 8 to 64 bytes in hexadecimal")
        return nonce

    def _expiry(self, now: int) -> int | None:
        from spdmkit.attestation.dates import duration_seconds

        return None if self.ear_lifetime is None else now + duration_seconds(self.ear_lifetime)
