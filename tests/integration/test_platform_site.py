"""The tests' own Django site has the tables that the suite is written for."""

from tests.fixtures.site import Site


def test_site_migrates_on_an_empty_database(empty_site: Site):
    assert "moderation.0001_initial... OK" in empty_site.manage("migrate", "--no-color")
