"""Reference values: what the measurements of a healthy device may be.

- `model`: one data model for all formats
- `json_format`, `corim`, `tcg_rim`: the formats
- `loader`: from a file's bytes, signatures verified, to `Reference` values
- `store`: a folder that keeps them and finds those for a device
"""
