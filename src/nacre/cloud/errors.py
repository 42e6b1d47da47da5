"""What can go wrong, in the cloud's own terms. Each pane renders it in its dialect's shape.

CloudError
  Invalid           the request does not make sense (names the field)
  Unauthorized      who asks is not known
  Forbidden         who asks is known and may not
    OverQuota         ... because the project has used up what it may
  NotFound          there is no such thing, or it is another tenant's
  Conflict          it contradicts the present state of things
  Gone              it was there once
  TooLarge          more bytes or items than the limit
  Unsupported       this kind of body is not understood
  Unavailable       not now: the remedy is to try again
"""

from typing import Any


class CloudError(Exception):
    """`code` is a stable name that dialects may show (Neutron's `type`, Placement's `code`); `details` are for machines."""

    def __init__(self, message: str, *, field: str = "", code: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code
        self.details = details


class Invalid(CloudError):
    pass


class Unauthorized(CloudError):
    pass


class Forbidden(CloudError):
    pass


class OverQuota(Forbidden):
    pass


class NotFound(CloudError):
    """404: there is no such thing, or the caller may not see it."""

    @classmethod
    def of(cls, kind: str, ident: object, *, code: str = "") -> "NotFound":
        """`Router 1234 could not be found.`"""
        return cls(f"{kind} {ident} could not be found.", code=code or f"{kind.title().replace(' ', '')}NotFound")


class Conflict(CloudError):
    pass


class Gone(CloudError):
    pass


class TooLarge(CloudError):
    pass


class Unsupported(CloudError):
    pass


class Unavailable(CloudError):
    pass
