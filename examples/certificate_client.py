"""A device that calls its certificate authority, and comes back with a certificate in a slot.

    spdm ca init myca
    spdm device init mydevice
    spdm device init authority --requester
    cp authority/trust-anchor.pem mydevice/requesters.pem
    # in mydevice/device.toml:
    #   requester_trust_anchors = ["requesters.pem"]
    #   may_provision = ["certificate:CN=spdmkit device *"]

    spdm verifier serve --listen tcp://127.0.0.1:4194 --trust-anchor mydevice/trust-anchor.pem \
        --mutual authority --ca myca &
    python examples/certificate_client.py mydevice tcp://127.0.0.1:4194 1

The device dials, says PROVISION_CERTIFICATE, and answers GET_CSR and SET_CERTIFICATE in a session
in which both sides proved who they are. The chain is on its disk before the authority hears of it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from spdmkit.device.folder import FolderDevice
from spdmkit.errors import SpdmError
from spdmkit.identity import Certificate
from spdmkit.messages.dsp0287 import ServiceId, SessionMethod
from spdmkit.services.desk import ServiceDesk
from spdmkit.services.dialling import Call, Caller
from spdmkit.services.wishes import Wish


async def call_authority(device: FolderDevice, uri: str, slot_id: int) -> Call:
    """Ask for a certificate in a slot; dial again with growing pauses while nobody is there."""
    desk = ServiceDesk(device)
    device.register_vendor(desk)

    def say(error: SpdmError, pause: float) -> None:
        print(f"{error}; again in {pause:.1f} seconds", file=sys.stderr)

    wish = Wish.of(
        ServiceId.PROVISION_CERTIFICATE,
        session_method=SessionMethod.SESSION,
        parameter=slot_id,
    )
    return await Caller(device, desk, on_failure=say).call(uri, [wish])


def main() -> int:
    """Read the arguments, call, and show what is in the slot now."""
    parser = argparse.ArgumentParser(description="Have a certificate provisioned.")
    parser.add_argument("device", help="folder of the device")
    parser.add_argument("uri", help="address of the authority")
    parser.add_argument("slot", type=int, choices=range(1, 8))
    given = parser.parse_args()
    try:
        device = FolderDevice.load(given.device)
        call = asyncio.run(call_authority(device, given.uri, given.slot))
    except SpdmError as error:
        print(f"{error} {error.hint}", file=sys.stderr)
        return error.exit_code
    for ending in call.endings:
        print(f"{ending.wish.label}: {ending.fate.value} {ending.reason}".rstrip())
    if not call.done:
        print(f"no certificate: {call.error or 'the authority refused'}", file=sys.stderr)
        return 3
    slot = device.credentials.slots[given.slot]
    for der in slot.certificates:
        certificate = Certificate(der)
        print(f"  {certificate.subject}, issued by {certificate.issuer}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
