"""What a store can answer instead of keeping something."""

from __future__ import annotations


class StoreFailed(Exception):
    """The store cannot be trusted any more: a write or sync failed, or what is on disk is damaged.

    After it nothing may be accepted: Linux drops a dirty page when its write fails, so a second sync would report
    success for data that is gone (PostgreSQL's "fsyncgate"). The only right answer is to restart and read again.
    """


class StoreFull(Exception):
    """There is no room. Nothing was changed, and the store works again when there is."""


class SchemaTooNew(StoreFailed):
    """A newer notifyd wrote this store. It is left as it is: an older program would damage what it does not know."""
