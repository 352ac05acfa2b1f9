import pytest

from autotrain.measure.session import Session
from autotrain.search.job import job_facts


def test_the_schedule_s_shape_is_kept(make_workload, machine):
    shape = job_facts(make_workload(duration="50ep", schedule="constant(10ep) > linear"), machine).schedule
    assert len(shape) == 101
    assert shape[:20] == (1.0,) * 20
    assert shape[20] > shape[60] > shape[-1] > 0
    assert shape[60] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("duration", ["1step", "30min"])
def test_a_schedule_of_any_length_has_a_shape(make_workload, machine, duration):
    assert len(job_facts(make_workload(duration=duration), machine).schedule) == 101


def test_it_survives_json(make_session):
    made = make_session()
    assert Session.from_json(made.to_json()).job == made.job
