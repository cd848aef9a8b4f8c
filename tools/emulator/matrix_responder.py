"""The matrix, our responder's half: the emulator's requester asks, and all it asks is answered.

The emulator's requester runs one long program: whatever both sides announce, it does, outside a
session, in a session by key exchange, in one by pre-shared key, and in another by key exchange
from the other slot. So a case says what is special, and which requests must have been among it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from emulator.case import Case, Ours
from emulator.matrix import (
    AEADS,
    ALL_VERSIONS,
    GROUPS,
    HASHES,
    ML_DSA,
    ML_KEM,
    MUTUAL,
    REQUESTER_SIGNATURES,
    SESSION_VERSIONS,
    SIGNATURES,
    SLH_DSA,
)
from emulator.suite import Suite
from spdmkit.messages import V11, V12, V13, V14, ResponderFlags
from spdmkit.protocol.session import MutualAuth

__all__ = ["responder_cases"]

F = ResponderFlags
CLEAR = int(F.HANDSHAKE_IN_THE_CLEAR_CAP)

EVERYTHING = int(
    F.SET_CERT_CAP
    | F.CSR_CAP
    | F.EP_INFO_CAP_SIG
    | F.GET_KEY_PAIR_INFO_CAP
    | F.SET_KEY_PAIR_INFO_CAP
    | F.HANDSHAKE_IN_THE_CLEAR_CAP
)
"""What our device does when it is told to, beyond what it announces by itself."""

ATTEST = ("GET_DIGESTS", "GET_CERTIFICATE", "CHALLENGE", "GET_MEASUREMENTS")
IN_SESSION = ("HEARTBEAT", "KEY_UPDATE", "GET_MEASUREMENTS", "GET_DIGESTS", "END_SESSION")
SESSION = ("KEY_EXCHANGE", "session:FINISH", *(f"session:{name}" for name in IN_SESSION))
PSK = ("PSK_EXCHANGE", "session:PSK_FINISH", *(f"session:{name}" for name in IN_SESSION))
LOG = ("GET_MEASUREMENT_EXTENSION_LOG", "session:GET_MEASUREMENT_EXTENSION_LOG")

ONLY_KEY_EXCHANGE = "KEY_EX,KEY_UPDATE,HEARTBEAT,MEAS,MEL,DIGEST,CERT"
ONLY_PSK = "PSK,KEY_UPDATE,HEARTBEAT,MEAS,MEL,DIGEST,CERT"
NO_APPLICATION = ("--exe_session", f"{ONLY_KEY_EXCHANGE},PSK")
"""Over DOE its application data are IDE-KM and TDISP, which no software device answers."""
PROVISION = "GET_CSR,SET_CERT,GET_KEY_PAIR_INFO,SET_KEY_PAIR_INFO,EP_INFO"
EVERY_SESSION_STEP = ("--exe_session", f"{ONLY_KEY_EXCHANGE},PSK,{PROVISION}")
SHORT = ("--exe_session", ONLY_KEY_EXCHANGE, "--meas_op", "ALL")
ATTEST_ONLY = ("--exe_session", "NO_END", "--meas_op", "ALL")


def responder_cases() -> Iterator[Case]:
    """Our responder's cases, in the order of the report."""
    yield from _everything()
    yield from _attestations()
    yield from _sessions()
    yield from _mutual()
    yield from _provisioning()
    yield from _chunks()
    yield from _post_quantum()
    yield from _extras()
    yield from _less_and_more()
    yield from _served()


def _case(group: str, what: str, version: int, asked: tuple[str, ...], **more: object) -> Case:
    base = Case(group, what, Ours.RESPONDER, "mctp", version, asked, slots=(0, 1))
    return replace(base, **more)  # type: ignore[arg-type]  # the fields of Case, by name


def _everything() -> Iterator[Case]:
    """The emulator as it comes, with all that it does by default."""
    for transport in ("mctp", "tcp", "doe"):
        for version in ALL_VERSIONS:
            asked = ATTEST
            if version >= V11:
                asked += (*SESSION, *PSK)
            if version >= V13:
                asked += LOG
            yield _case(
                "everything",
                "as it comes",
                version,
                asked,
                transport=transport,
                emulator=NO_APPLICATION if transport == "doe" else (),
            )

    for version in (V12, V13, V14):
        for transport in ("mctp", "tcp", "doe"):
            asked = (*ATTEST, *SESSION, *PSK, "GET_CSR", "session:SET_CERTIFICATE")
            if version >= V13:
                asked += (*LOG, "GET_ENDPOINT_INFO", "SET_KEY_PAIR_INFO")
            yield _case(
                "everything",
                "all that our device can be told to do",
                version,
                asked,
                transport=transport,
                capabilities=EVERYTHING,
                mutual=MutualAuth.ENCAPSULATED,
                provisions=True,
                spare_keys=1,
                emulator=(*EVERY_SESSION_STEP, "--meas_op", "ALL") if transport == "doe" else (),
            )


def _attestations() -> Iterator[Case]:
    for transport in ("mctp", "tcp"):
        for asym in SIGNATURES:
            for version in ALL_VERSIONS:
                if asym.startswith("EDDSA") and version < V12:
                    continue
                yield _case(
                    "attest",
                    asym,
                    version,
                    ATTEST,
                    suite=Suite(asym=asym),
                    transport=transport,
                    emulator=ATTEST_ONLY,
                )
    for version in (V11, V12, V13, V14):
        for name in HASHES:
            yield _case(
                "attest",
                name,
                version,
                ATTEST,
                suite=Suite(hash=name, meas_hash=name),
                emulator=ATTEST_ONLY,
            )
    for version in (V11, V12, V13, V14):
        for option in ("HASH", "RAW"):
            yield _case(
                "measurements",
                f"one by one, {option.lower()}",
                version,
                ATTEST,
                emulator=("--exe_session", "NO_END", "--meas_att", option),
            )
        for option in ("NO", "TCB", "ALL"):
            yield _case(
                "summary hash",
                option,
                version,
                (*ATTEST, "KEY_EXCHANGE"),
                emulator=(*SHORT, "--meas_sum", option),
            )


def _sessions() -> Iterator[Case]:
    for transport in ("mctp", "tcp", "doe"):
        for version in SESSION_VERSIONS:
            yield _case(
                "session",
                "handshake in the clear",
                version,
                SESSION,
                transport=transport,
                capabilities=CLEAR,
                emulator=SHORT,
            )
            yield _case(
                "session",
                "MAC only",
                version,
                (*SESSION, *PSK),
                transport=transport,
                without=int(F.ENCRYPT_CAP),
                emulator=("--exe_session", f"{ONLY_KEY_EXCHANGE},PSK", "--meas_op", "ALL"),
            )
    for version in SESSION_VERSIONS:
        for group in GROUPS:
            suite = Suite(exchange=group)
            yield _case("session", group, version, SESSION, suite=suite, emulator=SHORT)
        for aead in AEADS:
            suite = Suite(aead=aead)
            yield _case("session", aead, version, SESSION, suite=suite, emulator=SHORT)
        for name in HASHES:
            suite = Suite(hash=name, meas_hash=name)
            yield _case("session", name, version, SESSION, suite=suite, emulator=SHORT)
        for name in ("REQ", "RSP"):
            asked = SESSION
            if name == "RSP":
                asked = ("session:GET_ENCAPSULATED_REQUEST", "session:inside:KEY_UPDATE")
            yield _case(
                "key update",
                "by the responder" if name == "RSP" else "of the requester's key",
                version,
                asked,
                emulator=(*SHORT, "--key_upd", name),
            )
        for context in (True, False):
            yield _case(
                "psk",
                "with context" if context else "without context",
                version,
                PSK if context else tuple(name for name in PSK if "FINISH" not in name),
                capabilities=int(F.PSK_CAP_CONTEXT if context else F.PSK_CAP_NO_CONTEXT),
                without=int(F.PSK_CAP_NO_CONTEXT if context else F.PSK_CAP_CONTEXT),
                emulator=("--exe_session", ONLY_PSK),
            )
        yield _case(
            "slot",
            "1",
            version,
            (*ATTEST, *SESSION),
            emulator=(*SHORT, "--slot_id", "1"),
        )
        yield _case(
            "provisioned key",
            "slot 0xFF",
            version,
            ("CHALLENGE", "GET_MEASUREMENTS", "KEY_EXCHANGE", "session:FINISH"),
            capabilities=int(F.PUB_KEY_ID_CAP),
            without=int(F.CERT_CAP),
            emulator=(*SHORT, "--slot_id", "0xFF"),
        )
    for version in (V13, V14):
        yield _case(
            "multi-key",
            "slots 0, 1 and 4",
            version,
            (*ATTEST, *SESSION),
            slots=(0, 1, 4),
            capabilities=int(F.MULTI_KEY_CAP_NEG | F.GET_KEY_PAIR_INFO_CAP),
            settings={"multi_key": True},
            emulator=SHORT,
        )


def _mutual() -> Iterator[Case]:
    asked = {
        MutualAuth.WITHOUT_ENCAPSULATION: (),
        MutualAuth.ENCAPSULATED: ("session:inside:GET_DIGESTS", "session:inside:GET_CERTIFICATE"),
        MutualAuth.GET_DIGESTS: ("session:inside:GET_CERTIFICATE",),
    }
    for version in SESSION_VERSIONS:
        for mutual, option in MUTUAL.items():
            if mutual is MutualAuth.WITHOUT_ENCAPSULATION:
                continue
            for clear in (0, CLEAR):
                yield _case(
                    "mutual",
                    f"{option} {'clear' if clear else 'encrypted'}",
                    version,
                    asked[mutual] if not clear else (),
                    mutual=mutual,
                    capabilities=clear,
                    emulator=SHORT,
                )
        yield _case(
            "mutual",
            "provisioned key",
            version,
            ("KEY_EXCHANGE", "session:FINISH"),
            mutual=MutualAuth.WITHOUT_ENCAPSULATION,
            key_only=True,
            emulator=(*SHORT, "--req_slot_id", "0xFF"),
        )
    for req_asym in REQUESTER_SIGNATURES:
        yield _case(
            "mutual",
            req_asym,
            V12,
            SESSION,
            mutual=MutualAuth.ENCAPSULATED,
            suite=Suite(req_asym=req_asym),
            emulator=SHORT,
        )

    for version in (V11, V12):
        yield _case(
            "basic mutual",
            "CHALLENGE",
            version,
            ("CHALLENGE", "inside:GET_DIGESTS", "inside:GET_CERTIFICATE", "inside:CHALLENGE"),
            proves=True,
            settings={"basic_mutual_auth": True},
            emulator=SHORT,
        )


def _provisioning() -> Iterator[Case]:
    """What may write is given the freedom of a production line: the emulator asks for slot 0."""
    written = int(F.SET_CERT_CAP | F.CSR_CAP)
    for version in (V12, V13, V14):
        yield _case(
            "provisioning",
            "CSR and certificates",
            version,
            ("GET_CSR", "SET_CERTIFICATE", "session:SET_CERTIFICATE"),
            capabilities=written,
            provisions=True,
            emulator=("--exe_session", f"{ONLY_KEY_EXCHANGE},GET_CSR,SET_CERT"),
        )
    for version in (V13, V14):
        yield _case(
            "provisioning",
            "CSR and certificates, several keys",
            version,
            ("GET_CSR", "SET_CERTIFICATE", "session:SET_CERTIFICATE"),
            capabilities=written | int(F.MULTI_KEY_CAP_NEG | F.GET_KEY_PAIR_INFO_CAP),
            settings={"multi_key": True},
            provisions=True,
            emulator=("--exe_session", f"{ONLY_KEY_EXCHANGE},GET_CSR,SET_CERT"),
        )
        pairs = ("GET_KEY_PAIR_INFO", "SET_KEY_PAIR_INFO")
        yield _case(
            "provisioning",
            "key pairs",
            version,
            (*pairs, *(f"session:{name}" for name in pairs)),
            capabilities=int(F.GET_KEY_PAIR_INFO_CAP | F.SET_KEY_PAIR_INFO_CAP),
            spare_keys=1,
            provisions=True,
            emulator=(
                "--exe_session",
                f"{ONLY_KEY_EXCHANGE},GET_KEY_PAIR_INFO,SET_KEY_PAIR_INFO",
            ),
        )
        yield _case(
            "endpoint info",
            "both ways",
            version,
            (
                "GET_ENDPOINT_INFO",
                "inside:GET_ENDPOINT_INFO",
                "session:GET_ENDPOINT_INFO",
                "session:inside:GET_ENDPOINT_INFO",
            ),
            capabilities=int(F.EP_INFO_CAP_SIG),
            proves=True,
            emulator=("--exe_session", f"{ONLY_KEY_EXCHANGE},EP_INFO"),
        )


def _chunks() -> Iterator[Case]:
    for version in (V12, V13, V14):
        for size in (0x100, 0x400):
            yield _case(
                "chunks",
                f"DataTransferSize {size}",
                version,
                (*ATTEST, *SESSION, "CHUNK_GET"),
                settings={"data_transfer_size": size, "transmit_size": size},
                emulator=SHORT,
            )


def _post_quantum() -> Iterator[Case]:
    for transport in ("mctp", "tcp"):
        for asym, kem in (("ML_DSA_65", "ML_KEM_768"), ("ML_DSA_87", "ML_KEM_1024")):
            yield _case(
                "post-quantum",
                f"{asym} {kem}",
                V14,
                (*ATTEST, *SESSION),
                suite=Suite(asym=asym, req_asym=asym, exchange=kem),
                transport=transport,
                emulator=SHORT,
            )
    for transport in ("mctp", "tcp"):
        for asym in ML_DSA:
            suite = Suite(asym=asym)
            yield _case(
                "attest", asym, V14, ATTEST, suite=suite, transport=transport, emulator=SHORT
            )
    for kem in ML_KEM:
        yield _case("session", kem, V14, SESSION, suite=Suite(exchange=kem), emulator=SHORT)
    for asym in ML_DSA:
        yield _case(
            "mutual",
            asym,
            V14,
            # The largest of these signatures makes FINISH too large for the emulator's own buffer.
            ("session:inside:FINISH",) if asym == "ML_DSA_87" else SESSION,
            mutual=MutualAuth.ENCAPSULATED,
            suite=Suite(asym=asym, req_asym=asym, exchange="ML_KEM_768"),
            emulator=SHORT,
        )


def _extras() -> Iterator[Case]:
    """SLH-DSA, which takes an optional package.

    Our responder alone: what the emulator's signs so, not even the emulator's requester verifies.
    """
    for asym in SLH_DSA:
        yield _case("attest", asym, V14, ATTEST, suite=Suite(asym=asym), emulator=ATTEST_ONLY)


def _less_and_more() -> Iterator[Case]:
    """What is not announced is not asked for; and the model in which the device dials."""
    for version in SESSION_VERSIONS:
        yield _case(
            "reach-out",
            "Role-Inquiry",
            version,
            (*ATTEST, *SESSION),
            transport="tcp",
            reach_out=True,
            emulator=SHORT,
        )
        yield _case(
            "cached state",
            "psk",
            version,
            (),
            capabilities=int(F.CACHE_CAP),
            settings={"cache_negotiated_state": True},
            resumes=True,
            emulator=("--exe_conn", "VCA", "--exe_session", "PSK,HEARTBEAT"),
        )
        for secured in ("1.0", "1.1", "1.2"):
            yield _case(
                "secured messages",
                secured,
                version,
                SESSION,
                emulator=(*SHORT, "--sec_ver", secured),
            )
    for version in ALL_VERSIONS:
        yield _case(
            "measurements",
            "unsigned",
            version,
            ATTEST,
            capabilities=int(F.MEAS_CAP_NO_SIG),
            without=int(F.MEAS_CAP_SIG),
            emulator=ATTEST_ONLY,
        )
        if version < V13:  # later the device has a hash-extended measurement, which is never raw
            yield _case(
                "measurements",
                "raw only",
                version,
                ATTEST,
                suite=Suite(meas_hash="RAW_BIT"),
                emulator=ATTEST_ONLY,
            )


def _served() -> Iterator[Case]:
    """`spdm device serve`, with all algorithms and versions it has."""
    for transport in ("mctp", "tcp", "doe"):
        for version in ALL_VERSIONS:
            yield _case(
                "command line",
                "device serve",
                version,
                (),
                transport=transport,
                served=True,
                emulator=("--exe_session", f"{ONLY_KEY_EXCHANGE}"),
            )
        yield _case(
            "command line",
            "device serve, eight at once",
            V13,
            (),
            transport=transport,
            served=True,
            at_once=8,
            emulator=("--exe_session", ONLY_KEY_EXCHANGE),
        )
