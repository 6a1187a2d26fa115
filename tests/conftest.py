"""Shared by all tests: this file's folder is on the import path, so that they can `import factories`."""
