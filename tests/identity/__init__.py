"""Certificates, anchors, claims, issuing."""
