"""A software device kept in a folder: its keys, slots, measurements and configuration."""
