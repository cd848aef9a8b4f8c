"""The matrix, our requester's half: every case that is to be proven live."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from emulator.case import Case, Ours
from emulator.suite import Suite
from spdmkit.messages import V10, V11, V12, V13, V14, RequesterFlags
from spdmkit.protocol.session import MutualAuth

__all__ = [
    "AEADS",
    "ALL_VERSIONS",
    "GROUPS",
    "HASHES",
    "ML_DSA",
    "ML_KEM",
    "MUTUAL",
    "REQUESTER_SIGNATURES",
    "SESSION_VERSIONS",
    "SIGNATURES",
    "SLH_DSA",
    "requester_cases",
]

Q = RequesterFlags
CLEAR = int(Q.HANDSHAKE_IN_THE_CLEAR_CAP)

ALL_VERSIONS = (V10, V11, V12, V13, V14)
SESSION_VERSIONS = (V11, V12, V13, V14)
SIGNATURES = (
    "ECDSA_P256",
    "ECDSA_P384",
    "ECDSA_P521",
    "RSASSA_2048",
    "RSASSA_3072",
    "RSASSA_4096",
    "RSAPSS_2048",
    "RSAPSS_3072",
    "RSAPSS_4096",
    "EDDSA_25519",
    "EDDSA_448",
)
HASHES = ("SHA_256", "SHA_384", "SHA_512", "SHA3_256", "SHA3_384", "SHA3_512")
GROUPS = (
    "FFDHE_2048",
    "FFDHE_3072",
    "FFDHE_4096",
    "SECP_256_R1",
    "SECP_384_R1",
    "SECP_521_R1",
)
AEADS = ("AES_128_GCM", "AES_256_GCM", "CHACHA20_POLY1305")
REQUESTER_SIGNATURES = ("RSASSA_3072", "RSAPSS_3072", "ECDSA_P256", "ECDSA_P521", "EDDSA_25519")
ML_DSA = ("ML_DSA_44", "ML_DSA_65", "ML_DSA_87")
SLH_DSA = tuple(
    f"SLH_DSA_{hash_name}_{size}{kind}"
    for size in (128, 192, 256)
    for kind in "SF"
    for hash_name in ("SHA2", "SHAKE")
)
ML_KEM = ("ML_KEM_512", "ML_KEM_768", "ML_KEM_1024")
MUTUAL = {
    MutualAuth.WITHOUT_ENCAPSULATION: "WO_ENCAP",
    MutualAuth.ENCAPSULATED: "W_ENCAP",
    MutualAuth.GET_DIGESTS: "DIGESTS",
}
NO_MUTUAL = ("--mut_auth", "NO", "--basic_mut_auth", "NO")

RESPONDER_FLAGS = (
    "CERT,CHAL,MEAS_SIG,MEAS_FRESH,ENCRYPT,MAC,MUT_AUTH,KEY_EX,PSK_WITH_CONTEXT,ENCAP,HBEAT,KEY_UPD,"
    "CHUNK"
)
"""Flags for the emulator's responder where it is to announce more than it does by itself."""

ATTEST = ("negotiate", "identify", "challenge", "measurements")
OPEN = ("negotiate", "identify", "open")
LIVE = (
    "heartbeat",
    "in-session",
    "update-own",
    "update-all",
    "update-own",
    "update-by-responder",
    "update-all",
)
SESSION = (*OPEN, *LIVE, "end", "open", "end", "challenge")
"""Two sessions on one connection, and the connection goes on after them."""
SHORT_SESSION = (*OPEN, "heartbeat", "in-session", "update-own", "update-all", "end")
PSK = (
    "negotiate",
    "identify",
    "open-psk",
    "heartbeat",
    "psk-measurements",
    "update-own",
    "update-all",
    "update-by-responder",
    "end",
    "open-psk",
    "end",
)


def _requester(group: str, what: str, version: int, steps: tuple[str, ...], **more: object) -> Case:
    base = Case(group, what, Ours.REQUESTER, "mctp", version, steps, emulator=NO_MUTUAL)
    return replace(base, **more)  # type: ignore[arg-type]  # the fields of Case, by name


def requester_cases() -> Iterator[Case]:
    """Our requester's cases, in the order of the report."""
    yield from _attestations()
    yield from _sessions()
    yield from _mutual()
    yield from _provisioned_keys()
    yield from _provisioning()
    yield from _post_quantum()
    yield from _less_and_more()
    yield from _commands()


def _attestations() -> Iterator[Case]:
    for transport in ("mctp", "tcp", "doe"):
        for asym in SIGNATURES if transport != "doe" else ("ECDSA_P384",):
            for version in ALL_VERSIONS:
                if asym.startswith("EDDSA") and version < V12:
                    continue
                suite = Suite(asym=asym)
                yield _requester("attest", asym, version, ATTEST, suite=suite, transport=transport)
    for version in (V11, V12, V13, V14):
        for name in HASHES:
            if name != "SHA_384":
                suite = Suite(hash=name, meas_hash=name)
                yield _requester("attest", name, version, ATTEST, suite=suite)
    for version in (V13, V14):
        yield _requester(
            "log", "out of session", version, ("negotiate", "identify", "log", "challenge")
        )


def _sessions() -> Iterator[Case]:
    for transport in ("mctp", "tcp", "doe"):
        for version in SESSION_VERSIONS:
            for clear in (0, CLEAR):
                what = "handshake in the clear" if clear else "handshake encrypted"
                yield _requester(
                    "session", what, version, SESSION, transport=transport, capabilities=clear
                )
            yield _requester("psk", "with context", version, PSK, transport=transport)
            wrong = ("negotiate", "wrong-psk")
            yield _requester("psk", "wrong key", version, wrong, transport=transport)
            yield _requester(
                "session",
                "MAC only",
                version,
                SHORT_SESSION,
                transport=transport,
                without=int(Q.ENCRYPT_CAP),
            )
    for version in SESSION_VERSIONS:
        for group in GROUPS:
            if group != "SECP_384_R1":
                suite = Suite(exchange=group)
                yield _requester("session", group, version, SHORT_SESSION, suite=suite)
        for name in HASHES:
            if name != "SHA_384":
                suite = Suite(hash=name, meas_hash=name)
                yield _requester("session", name, version, SHORT_SESSION, suite=suite)
        for aead in AEADS:
            if aead != "AES_256_GCM":
                suite = Suite(aead=aead)
                yield _requester("session", aead, version, SHORT_SESSION, suite=suite)
        yield _requester("application", "PLDM", version, (*OPEN, "application", "end"))
        yield _requester(
            "psk",
            "MAC only",
            version,
            (
                "negotiate",
                "identify",
                "open-psk",
                "heartbeat",
                "psk-measurements",
                "update-all",
                "end",
            ),
            without=int(Q.ENCRYPT_CAP),
        )
    for version in (V12, V13, V14):
        for size in (0x100, 0x400):
            yield _requester(
                "chunks",
                f"DataTransferSize {size}",
                version,
                (*ATTEST, "open", "in-session", "update-all", "end"),
                settings={"data_transfer_size": size, "transmit_size": size},
            )
    for version in (V13, V14):
        yield _requester("log", "in session", version, (*OPEN, "log-in-session", "end"))
        for slot in (1, 4):
            yield _requester(
                "multi-key",
                f"slot {slot}",
                version,
                (*ATTEST, *SHORT_SESSION[2:]),
                slot=slot,
                settings={"multi_key": True},
            )
    yield _requester("slot", "1", V12, (*ATTEST, *SHORT_SESSION[2:]), slot=1)


def _mutual() -> Iterator[Case]:
    for version in SESSION_VERSIONS:
        for mutual, option in MUTUAL.items():
            for clear in (0, CLEAR):
                yield _requester(
                    "mutual",
                    f"{option} {'clear' if clear else 'encrypted'}",
                    version,
                    SHORT_SESSION,
                    mutual=mutual,
                    capabilities=clear,
                    emulator=("--mut_auth", option, "--basic_mut_auth", "NO"),
                )
    for req_asym in REQUESTER_SIGNATURES:
        yield _requester(
            "mutual",
            req_asym,
            V12,
            SHORT_SESSION,
            mutual=MutualAuth.ENCAPSULATED,
            suite=Suite(req_asym=req_asym),
            emulator=("--mut_auth", "W_ENCAP", "--basic_mut_auth", "NO"),
        )
    for version in (V11, V12, V13):
        yield _requester(
            "basic mutual",
            "CHALLENGE",
            version,
            ("negotiate", "identify", "basic-mutual", "measurements"),
            emulator=("--mut_auth", "NO", "--basic_mut_auth", "BASIC"),
        )


def _provisioned_keys() -> Iterator[Case]:
    for version in SESSION_VERSIONS:
        yield _requester(
            "provisioned key",
            "the responder's",
            version,
            ("negotiate", "identify", "challenge", "measurements", "open", "heartbeat", "end"),
            slot=0xFF,
            emulator=(*NO_MUTUAL, "--slot_id", "0xFF"),
        )


def _provisioning() -> Iterator[Case]:
    outside = ("negotiate", "identify")
    for version in (V12, V13, V14):
        for step in ("csr", "set-certificate"):
            yield _requester("provisioning", step, version, (*outside, step))
            yield _requester(
                "provisioning",
                f"{step} in session",
                version,
                (*outside, "open", f"session {step}", "end"),
            )
    for version in (V13, V14):
        for step in ("csr", "set-certificate", "key-pairs", "set-key-pair"):
            yield _requester(
                "provisioning",
                f"{step}, several keys",
                version,
                (*outside, step, "open", f"session {step}", "end"),
                settings={"multi_key": True},
            )
        yield _requester(
            "provisioning", "key-pairs", version, (*outside, "key-pairs", "open", "end")
        )
        yield _requester(
            "events",
            "subscription",
            version,
            (*outside, "open", "session subscribe", "end"),
            emulator=(*NO_MUTUAL, "--cap", f"{RESPONDER_FLAGS},EVENT"),
        )
        yield _requester(
            "endpoint info",
            "ours",
            version,
            (*outside, "endpoint-info", "open", "session endpoint-info", "end"),
        )
        yield _requester(
            "endpoint info",
            "asked of us",
            version,
            (
                *outside,
                "encapsulated-endpoint-info",
                "open",
                "session encapsulated-endpoint-info",
                "end",
            ),
            mutual=MutualAuth.ENCAPSULATED,
            emulator=("--mut_auth", "W_ENCAP", "--basic_mut_auth", "NO"),
        )


def _post_quantum() -> Iterator[Case]:
    for transport in ("mctp", "tcp"):
        for asym, kem in (("ML_DSA_65", "ML_KEM_768"), ("ML_DSA_87", "ML_KEM_1024")):
            suite = Suite(asym=asym, req_asym=asym, exchange=kem)
            yield _requester(
                "post-quantum",
                f"{asym} {kem}",
                V14,
                (*ATTEST, *SHORT_SESSION[2:]),
                suite=suite,
                transport=transport,
            )
    for transport in ("mctp", "tcp"):
        for asym in ML_DSA:
            suite = Suite(asym=asym)
            yield _requester("attest", asym, V14, ATTEST, suite=suite, transport=transport)
    for kem in ML_KEM:
        yield _requester("session", kem, V14, SHORT_SESSION, suite=Suite(exchange=kem))
    for asym in ML_DSA:
        yield _requester(
            "mutual",
            asym,
            V14,
            SHORT_SESSION,
            mutual=MutualAuth.ENCAPSULATED,
            suite=Suite(asym=asym, req_asym=asym, exchange="ML_KEM_768"),
            emulator=("--mut_auth", "W_ENCAP", "--basic_mut_auth", "NO"),
        )


def _less_and_more() -> Iterator[Case]:
    """What the emulator does when it is told to announce more or less than by itself."""
    for version in SESSION_VERSIONS:
        yield _requester(
            "reach-out",
            "Role-Inquiry",
            version,
            (*ATTEST, *SHORT_SESSION[2:]),
            transport="tcp",
            reach_out=True,
        )
        if version >= V12:
            yield _requester(
                "certificates",
                "alias model",
                version,
                (*ATTEST, *SHORT_SESSION[2:]),
                emulator=(*NO_MUTUAL, "--cap", f"{RESPONDER_FLAGS},ALIAS_CERT"),
            )
        yield _requester(
            "psk",
            "without context",
            version,
            tuple(step for step in PSK if step != "update-by-responder"),
            emulator=(*NO_MUTUAL, "--cap", RESPONDER_FLAGS.replace("PSK_WITH_CONTEXT", "PSK")),
        )
        yield _requester("cached state", "psk", version, ("negotiate",), resumes=True)
        yield _requester(
            "cached state", "key exchange", version, ("negotiate", "identify"), resumes=True
        )
        for secured in ("1.0", "1.1", "1.2"):
            yield _requester(
                "secured messages",
                secured,
                version,
                (*OPEN, "heartbeat", "end"),
                emulator=(*NO_MUTUAL, "--sec_ver", secured),
            )
    for version in ALL_VERSIONS:
        yield _requester(
            "measurements",
            "unsigned",
            version,
            ("negotiate", "identify", "challenge", "unsigned-measurements"),
            emulator=(*NO_MUTUAL, "--cap", RESPONDER_FLAGS.replace("MEAS_SIG", "MEAS_NO_SIG")),
        )


def _commands() -> Iterator[Case]:
    """The command line against the emulator with all its defaults, mutual authentication too."""
    attest = ("attest", "{uri}", "--trust-anchor", "{anchor}", "--json")
    commands: dict[str, tuple[tuple[str, ...], int]] = {
        "probe": (("probe", "{uri}", "--json"), 0),
        "attest": (attest, 4),
        "attest --authenticate-only": ((*attest, "--authenticate-only"), 0),
        "attest --session": ((*attest, "--session"), 4),
        "session": (("session", "{uri}", "--trust-anchor", "{anchor}"), 0),
        "attest --mutual": ((*attest, "--session", "--mutual", "{identity}"), 4),
    }
    for transport in ("mctp", "tcp", "doe"):
        for what, (command, status) in commands.items():
            yield _requester(
                "command line",
                what,
                V14 if transport == "tcp" else V12,
                (),
                transport=transport,
                command=command,
                exit_status=status,
            )
