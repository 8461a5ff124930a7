"""The exported model over HTTP."""
