"""Where each attack of the security history, and each rule drawn from it, is tested.

The table is checked: a test that is renamed or removed fails here.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

FILES = {
    "secrets": "security/test_secrets_and_freshness.py",
    "identities": "security/test_identities.py",
    "sizes": "security/test_peer_controlled_sizes.py",
}
INDEX: dict[str, tuple[str, ...]] = {
    "CVE-2023-31127 mode switch": (
        "security/test_cve_2023_31127.py::test_opener_times_finisher",
        "security/test_cve_2023_31127.py::test_finish_without_the_identity_that_was_demanded",
        "security/test_rules_matter.py::test_the_attack_fails",
        "security/test_random_orders.py::Attacker",
    ),
    "CVE-2023-32690 exponents": (
        "sizes::test_cve_2023_32690_ct_exponent_of_the_responder",
        "sizes::test_cve_2023_32690_ct_exponent_of_the_requester",
        "sizes::test_cve_2023_32690_rdt_exponent",
    ),
    "GHSA-j54w-759w-xj3m CSR subject": (
        "identities::test_ghsa_j54w_759w_xj3m_malformed_requester_info",
        "identity/test_issue.py::test_requester_info_refused",
    ),
    "GHSA-m4wc-xmvg-369f offsets": (
        "sizes::test_ghsa_m4wc_offset_and_length_of_the_log",
        "sizes::test_offset_and_length_of_a_large_chain",
    ),
    "bounds series: inner lengths": (
        "messages/test_every_message.py::test_lengths_that_lie",
        "messages/test_every_message.py::test_truncation",
        "security/test_bad_input.py::test_cut_at_every_byte",
        "sizes::test_4975ccc3_lengths_in_a_record",
        "sizes::test_a_large_request_of_any_size_allocates_nothing",
        "sizes::test_portions_of_a_chain_that_do_not_add_up",
    ),
    "da738f32 RESPOND_IF_READY elsewhere": ("security/test_rules_matter.py::da738f32",),
    "spdm-rs#327 CertChainHash": ("security/test_rules_matter.py::spdm-rs#327",),
    "spdm-rs cb5655c downgrade": (
        "security/test_rules_matter.py::cb5655c",
        "security/test_downgrade.py::test_cb5655c_a_selection_that_was_not_offered",
        "security/test_downgrade.py::test_a_bent_offer_does_not_survive",
    ),
    "spdm-rs d53e360 keys outlive the session": (
        "security/test_rules_matter.py::d53e360",
        "secrets::test_d53e360_keys_are_wiped_whichever_way_a_session_ends",
    ),
    "intel/rust-spdm#32 key purposes": (
        "identities::test_intel_rust_spdm_32_a_requesters_certificate_is_no_responders",
    ),
    "nvtrust empty reference": (
        "cli/test_end_to_end.py::test_without_reference_values_it_is_not_appraised",
        "attestation/test_negative.py::test_a_device_without_measurements_is_not_appraised",
    ),
    "xaionaro-go constant nonce": (
        "security/test_rules_matter.py::constant GCM nonce",
        "protocol/test_session_life.py::test_no_sequence_number_comes_twice_under_one_key",
    ),
    "xaionaro-go session commands in the clear": (
        "security/test_rules_matter.py::END_SESSION accepted in the clear",
        "security/test_bad_input.py::HEARTBEAT outside a session",
    ),
    "wolfTPM static state": ("secrets::test_interleaved_step_by_step",),
    "DCAP-type stale flag": ("secrets::test_verified_values_cannot_be_made_by_hand",),
    "USENIX 2023, 2024/2047: lemmas on the table": (
        "security/test_state_tables.py::test_there_is_one_way_into_each_kind_of_session",
    ),
    "FaultSpy: refuses plaintext once a session exists": (
        "security/test_rules_matter.py::an answer in the clear to a request in a session",
    ),
    "rule 1: total tables": (
        "security/test_state_tables.py::test_the_connection_table_is_total",
        "security/test_state_tables.py::test_the_session_table_is_total",
        "security/test_state_tables.py::test_the_binding_table_is_total",
    ),
    "rule 2: frozen at creation": ("secrets::test_rule_2_what_a_session_is_does_not_change",),
    "rule 3: transcripts": ("capture/test_replay.py::", "protocol/test_attestation_flow.py::"),
    "rule 4: in and out of a session": (
        "security/test_state_tables.py::test_table_6_inside_a_session",
        "security/test_cve_2023_31127.py::test_nothing_but_the_finisher_in_a_handshake",
    ),
    "rule 5: signing contexts": ("secrets::test_rule_5_a_signature_made_for_something_else",),
    "rule 6: nonces": (
        "secrets::test_nonces_are_drawn_anew_each_time",
        "secrets::test_an_all_zero_nonce_of_the_responder_is_refused",
    ),
    "rule 7: chains": ("identities::test_rule_7_the_chain_does_not_bring_its_own_anchor",),
    "rule 8: AEAD limits": (
        "protocol/test_session_life.py::test_a_key_protects_no_more_records_than_it_may",
        "security/test_rules_matter.py::AEAD limit",
    ),
    "rule 9: sizes": (
        "sizes::test_a_large_response_of_any_size_allocates",
        "security/test_rules_matter.py::a large response beyond MaxSPDMmsgSize",
    ),
    "rule 10: nothing is leaked": (
        "secrets::test_secrets_are_in_no_text",
        "secrets::test_no_key_log_unless_asked_for",
    ),
    "a request is never retried": (
        "security/test_cancelling.py::test_at_every_step_of_the_protocol",
        "security/test_cancelling.py::test_at_every_await_point_over_a_socket",
    ),
    "garbage beside an honest client": (
        "security/test_garbage_beside.py::test_the_other_client_is_served",
    ),
}


@pytest.mark.parametrize("attack", INDEX)
def test_it_is_tested(attack: str) -> None:
    for place in INDEX[attack]:
        file, _, what = place.partition("::")
        text = (TESTS / FILES.get(file, file)).read_text()
        named = re.search(rf"(def|class) {re.escape(what)}", text) if what else "def test" in text
        assert named or what in text, place
