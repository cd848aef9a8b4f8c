"""From evidence to a decision that an operator can act on.

Authentication says who; appraisal says whether to trust it. It works offline, fails closed, and
explains itself. Nothing is imported here, so that naming a part does not load the libraries that
another part needs.

- `reference`: reference values, their formats, and the store that keeps them
- `policy`: what an operator demands, as a file or composed in Python
- `evidence`: what a device said, as an object and a file that can be verified again years later
- `verification`: is the evidence authentic; gives a `VerifiedEvidence`
- `appraiser`: are the measurements those we want; gives an `AttestationResult`
- `results`: the result as JSON, EAR, DSP0287 VERIFICATION_RESULTS and HTML
"""
