"""A proxy's plan: what is not said is the default's, and a schedule takes the place of the default's phases."""

from pipelines.proxies import PLAN, ProxySettings


def test_one_key_of_the_plan_can_be_changed_alone():
    plan = ProxySettings.model_validate({"plan": {"tokens": "2M"}}).plan
    assert (plan.tokens, plan.peak_lr, len(plan.phases)) == (2_000_000, PLAN["peak_lr"], len(PLAN["phases"]))


def test_a_schedule_takes_the_place_of_the_phases():
    asked = ProxySettings.model_validate({"plan": {"schedule": "wsd"}})
    assert (asked.plan.phases, asked.plan.schedule.kind, asked.plan.peak_lr) == ((), "wsd", PLAN["peak_lr"])
    assert ProxySettings.model_validate(asked.model_dump(mode="json")) == asked
