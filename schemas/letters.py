"""Letters: what each of them has to say, as facts without any formatting."""

from datetime import timedelta
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Line = Annotated[str, Field(min_length=1, max_length=500)]
Title = Annotated[str, Field(max_length=255)]


class LetterBase(BaseModel):
    """A letter: frozen, strict, and refused with a name when a field is not its own.

    `subscribed` letters can be unsubscribed from; `critical` ones are sent whatever their reader prefers, and never in
    a digest; after `keeps_for` a letter is not worth sending any more.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    subscribed: ClassVar[bool] = False
    critical: ClassVar[bool] = False
    for_managers: ClassVar[bool] = False
    keeps_for: ClassVar[timedelta] = timedelta(days=2)


class AdLetter(LetterBase):
    """About one ad. `occurred_at` is when it happened; `link` is where the reader can see the ad."""

    ad_id: int
    ad_title: Title
    occurred_at: AwareDatetime
    reason: Annotated[str, Field(max_length=2_000)] | None = None
    reasons: Annotated[tuple[Line, ...], Field(max_length=20)] = ()
    link: str | None = None


class AdApproved(AdLetter):
    """To the owner: the ad is on the site."""

    name: Literal["ad_approved"] = "ad_approved"


class AdRejected(AdLetter):
    """To the owner: the ad is refused."""

    name: Literal["ad_rejected"] = "ad_rejected"


class AdNeedsEdit(AdLetter):
    """To the owner: the ad must be changed; so many attempts are left."""

    name: Literal["ad_needs_edit"] = "ad_needs_edit"
    attempts_left: Annotated[int, Field(ge=0)] | None = None
    max_attempts: Annotated[int, Field(ge=1)] = 3


class AdMaxAttempts(AdLetter):
    """To the owner: the ad is refused, because it was changed too often in vain."""

    name: Literal["ad_max_attempts"] = "ad_max_attempts"
    max_attempts: Annotated[int, Field(ge=1)] = 3


class AdStatusChanged(AdLetter):
    """To the owner: the ad has another status."""

    name: Literal["ad_status_changed"] = "ad_status_changed"
    status: str


class ManagerLetter(AdLetter):
    """To a manager."""

    for_managers: ClassVar[bool] = True
    keeps_for: ClassVar[timedelta] = timedelta(days=7)


class ManagerReviewRequired(ManagerLetter):
    """A person must look at the ad."""

    name: Literal["manager_review_required"] = "manager_review_required"


class ManagerAdFlagged(ManagerLetter):
    """Something about the ad was noticed."""

    name: Literal["manager_ad_flagged"] = "manager_ad_flagged"


class ManagerMaxAttempts(ManagerLetter):
    """The ad was refused, because it was changed too often in vain."""

    critical: ClassVar[bool] = True

    name: Literal["manager_max_attempts"] = "manager_max_attempts"


class ManagerAdEvent(ManagerLetter):
    """Something else happened to the ad."""

    name: Literal["manager_ad_event"] = "manager_ad_event"
    action: str


class Plain(LetterBase):
    """Words of somebody else, one paragraph after the other."""

    name: Literal["plain"] = "plain"
    subject: Annotated[str, Field(min_length=1, max_length=200)]
    paragraphs: Annotated[tuple[Annotated[str, Field(max_length=5_000)], ...], Field(min_length=1, max_length=200)]


Letter = Annotated[
    AdApproved
    | AdRejected
    | AdNeedsEdit
    | AdMaxAttempts
    | AdStatusChanged
    | ManagerReviewRequired
    | ManagerAdFlagged
    | ManagerMaxAttempts
    | ManagerAdEvent
    | Plain,
    Field(discriminator="name"),
]
