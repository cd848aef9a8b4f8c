"""What the installed libraries provide, decided when first asked and never by importing this.

An algorithm that DSP0274 numbers stays in the registry even when nothing here implements it; its
entry then says why, and which extra of spdmkit would change that.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spdmkit.errors import UnsupportedAlgorithm

if TYPE_CHECKING:
    from types import ModuleType

__all__ = [
    "GMSSL",
    "ML_DSA",
    "ML_KEM",
    "PQCRYPTO",
    "PYCRYPTODOME",
    "Missing",
    "Package",
    "PycaFeature",
    "Requirement",
]


class Requirement(Protocol):
    """Something an algorithm needs that may not be there."""

    def missing(self) -> str:
        """Why it is not there, as a sentence without full stop; empty when it is."""
        ...

    @property
    def hint(self) -> str:
        """What to do about it, or empty."""
        ...


@dataclass(frozen=True, slots=True)
class Package:
    """An optional package, found without importing it and loaded at first use.

    Attributes:
        module: top-level module name.
        distribution: its name on the package index.
        extra: the extra of spdmkit that installs it.
    """

    module: str
    distribution: str
    extra: str

    @property
    def hint(self) -> str:
        """How to install the package."""
        return f"install it with: pip install 'spdmkit[{self.extra}]'"

    def missing(self) -> str:
        """Why the package cannot be used, or empty."""
        if self.module in _failed_imports:
            return _failed_imports[self.module]
        if _spec_exists(self.module):
            return ""
        return f"the package {self.distribution} is not installed"

    def load(self, submodule: str = "") -> ModuleType:
        """The package, or a submodule of it.

        Raises:
            UnsupportedAlgorithm: it is absent, or present and cannot be imported (a wheel for
                another libc, say); the latter is remembered and then reported by `missing`.
        """
        reason = self.missing()
        if not reason:
            try:
                return importlib.import_module(
                    f"{self.module}.{submodule}" if submodule else self.module
                )
            except ImportError as error:
                reason = f"the package {self.distribution} cannot be imported: {error}"
                _failed_imports[self.module] = reason
        raise UnsupportedAlgorithm(self.distribution, hint=f"{reason}; {self.hint}")


_failed_imports: dict[str, str] = {}


@functools.cache
def _spec_exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


@dataclass(frozen=True, slots=True)
class PycaFeature:
    """Something cryptography offers only when built against a recent OpenSSL.

    Attributes:
        probe: name of the method of its backend that tells.
        label: what to call the feature in a reason.
    """

    probe: str
    label: str

    @property
    def hint(self) -> str:
        """Where a build with the feature comes from."""
        return "use cryptography's own wheel, which brings its OpenSSL"

    def missing(self) -> str:
        """Why the feature cannot be used, or empty. Imports cryptography."""
        return _probe_pyca(self.probe, self.label)


@functools.cache
def _probe_pyca(probe: str, label: str) -> str:
    backend = importlib.import_module("cryptography.hazmat.backends.openssl.backend").backend
    if getattr(backend, probe)():
        return ""
    return f"cryptography here was built against an OpenSSL without {label}"


@dataclass(frozen=True, slots=True)
class Missing:
    """No library that is kept up provides it.

    Attributes:
        reason: what is missing.
    """

    reason: str

    @property
    def hint(self) -> str:
        """Nothing can be done by installing something."""
        return ""

    def missing(self) -> str:
        """The reason."""
        return self.reason


PQCRYPTO = Package("pqcrypto", "pqcrypto", "pq")
GMSSL = Package("gmssl_pyx", "gmssl-pyx", "sm")
PYCRYPTODOME = Package("Crypto", "pycryptodome", "ed448")
ML_DSA = PycaFeature("mldsa_supported", "ML-DSA")
ML_KEM = PycaFeature("mlkem_supported", "ML-KEM")
