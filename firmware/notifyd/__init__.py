"""notifyd: holds a Microsoft 365 grant and sends the gateway's mail with it."""

__version__ = "0.1.0"
