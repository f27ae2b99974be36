"""Break-even and the table of grids."""

import json
from pathlib import Path

import pytest

from leaderboard import carbon


def test_break_even_is_where_making_and_saving_meet():
    inferences = carbon.break_even(0.02, 4e-8)
    assert inferences * 4e-8 == pytest.approx(0.02)


@pytest.mark.parametrize("saved", [0.0, -1e-9])
def test_a_model_that_saves_nothing_never_pays_for_itself(saved):
    assert carbon.break_even(0.02, saved) is None


def test_free_making_pays_at_once():
    assert carbon.break_even(0.0, 1e-9) == 0


def test_grids_are_sorted_and_cited():
    table = carbon.grids()
    assert [g.g_per_kwh for g in table] == sorted(g.g_per_kwh for g in table)
    assert {"FRA", "DEU", "USA", "CHN", "IND", "POL", "NOR"} <= {g.iso3 for g in table}
    assert all(len(g.iso3) == 3 and g.year == 2023 and "Our World in Data" in g.source for g in table)


def test_grids_are_the_figures_codecarbon_carries():
    codecarbon = pytest.importorskip("codecarbon")
    file = Path(codecarbon.__file__).parent / "data/private_infra/global_energy_mix.json"
    packaged = json.loads(file.read_text())
    for grid in carbon.grids():
        assert packaged[grid.iso3]["year"] == grid.year
        assert grid.g_per_kwh == pytest.approx(packaged[grid.iso3]["carbon_intensity"], abs=0.051)


def test_emissions_are_energy_times_intensity():
    assert carbon.emissions_g(2.0, 381) == 762
