"""The fast part of the fault matrix: a process is killed at each step boundary; all of it is `make faults`."""

from datetime import timedelta

import pytest

from tests.faults.matrix.boundaries import boundaries
from tests.faults.matrix.cells import OWN, Cell, run_cell
from tests.faults.matrix.parts import Site
from tests.fixtures.servers import Servers
from tests.fixtures.suite import Program


@pytest.mark.timeout(400)
@pytest.mark.parametrize("part", ["ticker", "relay", "job", "batch", "side effect"])
async def test_process_killed_at_each_step_boundary_loses_and_doubles_nothing(
    part: str, servers: Servers, vhost: str, database_url: str, pocketwatch: Program
):
    cell = Cell(part, tuple(boundaries(part)), OWN, "kill")
    site = Site(servers, vhost, database_url, pocketwatch)

    result = await run_cell(cell, site, repetitions=1, seed=1, freeze=timedelta(0))

    assert result.faults == len(cell.boundaries), result.summary
    assert result.is_good, result.summary
    assert result.recovered
