"""What can go wrong between the agent and the platform, and the codes with which the agent exits."""

EXIT_DONE = 0
EXIT_UNAUTHORIZED = 3
"""The platform does not know the agent's token."""
EXIT_REFUSED = 4
"""The platform refused the registration or the result for good, or a setting is missing."""
EXIT_LEASE_LOST = 5
"""The platform could not be reached for longer than the lease; what ran has been killed."""
EXIT_AGAIN = 6
"""The platform does not trust a self-hosted worker's session any more; what ran has been killed, and it may register again."""


class Unauthorized(Exception):
    """The token is worth nothing (401): whatever runs is killed and the agent exits."""


class StaleAttempt(Exception):
    """The attempt was superseded (409 stale_attempt): its tree is killed, and no more is said about it."""


class LeaseLost(Exception):
    """No answer came for longer than the lease: from now on the platform may start another attempt."""


class Refused(Exception):
    """An answer that repeating the call does not mend. Its text is for a person."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class BadDefinition(ValueError):
    """What the platform asked to run makes no sense; nothing was started."""
