"""What can go wrong in the cloud, sorted by what the caller does about it.

CloudError
├── StoreUnavailable   the disk is full, the file is locked or cannot be written now: keep the data, wait, try again
├── StoreRefused       the file is not ours, too new, or another program writes it: an operator has to act
└── TopicError         a message arrived on a topic this program cannot read: set it aside
"""

from __future__ import annotations


class CloudError(Exception):
    """Base of every error of this package."""


class StoreUnavailable(CloudError):
    """Nothing was stored; the same write may work later."""


class StoreRefused(CloudError):
    """This store cannot be used until somebody does what the text says."""


class TopicError(CloudError):
    """The topic is not one of ours; the text says what is wrong with it."""
