# Thin targets over run.py, for hands that are used to make.
PYTHON ?= python3
SECONDS ?= 60

.PHONY: help demo test check docs build package sbom fuzz bench

help:
	@echo "demo test check docs build package sbom fuzz bench   (fuzz: SECONDS=$(SECONDS))"

demo test check docs build sbom:
	$(PYTHON) run.py $@

package:
	$(PYTHON) run.py test-package

fuzz:
	$(PYTHON) run.py setup
	.venv/bin/python -m tests.fuzz --seconds $(SECONDS)

bench:
	@for each in attest handshake session decode; do $(PYTHON) run.py spdm bench $$each; done
