"""What can go wrong, split by who must mend it; each error names the object, the cause and the remedy."""


class FabricError(Exception):
    """Base of every error that crosses a module's border.

    `what` is the object and the cause ("network default:blue: gateway 10.9.0.1 is outside 10.1.0.0/24"),
    `remedy` what to do about it ("choose a gateway inside the subnet").
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}" if self.remedy else self.what


class OperatorError(FabricError):
    """The person who asked can mend it."""


class InvalidError(OperatorError):
    """A value that cannot be right, whatever the state."""


class NotFoundError(OperatorError):
    """The object named does not exist."""


class ConflictError(OperatorError):
    """Right in itself, refused because of something else that exists."""


class ExhaustedError(OperatorError):
    """A pool (addresses, blocks, VLANs, VNIs) has nothing left to give."""


class UnauthorizedError(OperatorError):
    """The caller may not do this (origin authorisation among others)."""


class PeerError(FabricError):
    """The other end of a session must mend it: a switch, a netmaster, the store."""


class UnavailableError(PeerError):
    """Nobody answers there now; trying again later may help."""


class StaleError(PeerError):
    """A transaction compared with a revision that is no longer the current one."""


class CompactedError(PeerError):
    """The store no longer has the history asked for: list again."""


class KernelError(FabricError):
    """The kernel refused, or lacks a feature."""


class ShapingError(KernelError):
    """An endpoint's bandwidth cannot be kept; all else of it stands."""


class NamespaceGoneError(KernelError):
    """The container's network namespace does not exist (any more)."""
