"""Serve an exported model over HTTP."""
