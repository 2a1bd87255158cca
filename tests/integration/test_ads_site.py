"""The ads that the site counts as validated or pending, after each of the suite's decisions."""

from schemas.ticks import ArchiveAds
from tests.fixtures.ads import Ads
from tests.fixtures.moderation import CLEAN, PHONE, SCAM, Review, Submitted
from tests.fixtures.site import Site
from tests.fixtures.suite import Deliver, Program


async def test_site_counts_exactly_approved_ads_as_validated(review: Review, submitted: Submitted, site: Site):
    approved, returned, awaiting = (submitted.add(text) for text in (CLEAN, PHONE, SCAM))
    rejected = submitted.add(CLEAN)
    for number in range(3):
        submitted.add_decision(rejected, "needs_edit", days_ago=1, text=f"text {number}")
    edited = submitted.add(PHONE, status="needs_review")
    submitted.execute("UPDATE car_ads SET is_validated = true WHERE id = %(ad)s", ad=edited)

    for ad in (approved, returned, awaiting, rejected, edited):
        await review(ad)

    assert submitted.row(rejected)["status"] == "rejected"
    assert site.call("ads.validated") == [approved]
    assert site.call("ads.pending") == [returned, awaiting, rejected, edited]


async def test_archived_ads_are_not_validated_until_they_are_restored(
    pocketwatch: Program, deliver: Deliver, ads: Ads, site: Site
):
    (active,), (sold,), (recent,) = ads.add("active"), ads.add("sold"), ads.add("active", updated=1)

    await deliver(ArchiveAds())
    archived = site.call("ads.validated")
    for ad in (active, sold):
        assert pocketwatch("archive", "restore", str(ad)).returncode == 0

    assert archived == [recent]
    assert site.call("ads.validated") == [active, recent]
    assert site.call("ads.pending") == [sold]
