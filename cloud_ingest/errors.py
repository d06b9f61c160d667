"""What can go wrong in the cloud, sorted by what the caller does about it.

CloudError
├── StoreUnavailable   the disk is full, the file is locked or cannot be written now: keep the data, wait, try again
│   └── Overtaken      what was prepared while another transaction ended has to be prepared again
├── PointsRefused      the store of observations will not have some rows: set aside what they came with
├── StoreRefused       the file is not ours, too new, or another program writes it: an operator has to act
│   └── StoreInUse     the last of these: what is wanted may be handed over to it
├── ChunkDamaged       a chunk of closed observations cannot be read: tram-cloud compact --repair
├── AuthorityRefused   the broker's certificates cannot be made: do what the text says
├── BackupRefused      a backup or archive cannot be made, or is not what it should be: do what the text says
├── QuestionRefused    a question asks for more than one answer may hold, or for what is not there: ask otherwise
├── FileRefused        a file somebody named cannot be used: its text says what to mend
├── ChangeRefused      what somebody asked to change cannot be: its text says why
├── CommandUnknown     no such command or rollout, or not this gateway's: look at the id
└── TopicError         a message arrived on a topic this program cannot read: set it aside
"""

from __future__ import annotations


class CloudError(Exception):
    """Base of every error of this package."""


class StoreUnavailable(CloudError):
    """Nothing was stored; the same write may work later."""


class Overtaken(StoreUnavailable):
    """What the write was prepared with has changed meanwhile: prepare it again."""


class PointsRefused(CloudError):
    """The store works, and refuses some of what it was given; the text says which rows and what to do."""


class StoreRefused(CloudError):
    """This store cannot be used until somebody does what the text says."""


class StoreInUse(StoreRefused):
    """Another program writes this store."""


class ChunkDamaged(CloudError):
    """Closed observations cannot be read; raw records can make them again. `chunk` is the number of the chunk."""

    def __init__(self, text: str, chunk: int | None = None) -> None:
        super().__init__(text)
        self.chunk = chunk


class AuthorityRefused(CloudError):
    """The files of the certificate authority cannot be used, or a name cannot have a certificate."""


class BackupRefused(CloudError):
    """A backup or an archive cannot be made or used, and nothing was changed by it."""


class QuestionRefused(CloudError):
    """A question cannot be answered as it is asked; the text says how to ask."""


class FileRefused(CloudError):
    """A file cannot be read or lacks what it should have."""


class ChangeRefused(CloudError):
    """A change that a person asked for is not possible; nothing was changed."""


class CommandUnknown(CloudError):
    """There is no such command or rollout, or it is another gateway's."""


class TopicError(CloudError):
    """The topic is not one of ours; the text says what is wrong with it."""
