"""Noise levels against closed forms: a model that knows the truth must be followed exactly, up and down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)

from probe import Schedule
from store.errors import InvalidInputError, UnknownLayerError, UnsupportedBackboneError


def made(scheduler: object, steps: int = 6) -> Schedule:
    scheduler.set_timesteps(steps)  # type: ignore[attr-defined]
    return Schedule.of(scheduler)


def truth(schedule: Schedule, clean: torch.Tensor, gaussian: torch.Tensor, step: int) -> torch.Tensor:
    """What a perfect model predicts for the state of a step."""
    if schedule.prediction == "flow":
        return gaussian - clean
    if schedule.prediction == "epsilon":
        return gaussian
    return schedule.signal[step] * gaussian - schedule.noise[step] * clean


SCHEDULERS = {
    "flow": FlowMatchEulerDiscreteScheduler(shift=5.0),
    "flow unipc": UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
    "v": CogVideoXDDIMScheduler(
        prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True
    ),
    "v dpm": CogVideoXDPMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
    "epsilon": CogVideoXDDIMScheduler(prediction_type="epsilon", timestep_spacing="trailing"),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_following_a_perfect_model_goes_from_any_state_to_any_other(name: str) -> None:
    schedule = made(SCHEDULERS[name])
    clean, gaussian = torch.randn(2, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    states = [schedule.signal[i] * clean + schedule.noise[i] * gaussian for i in range(len(schedule) + 1)]
    for start in range(1, len(schedule) + 1):
        for end in range(len(schedule) + 1):
            moved = schedule.move(states[start], truth(schedule, clean, gaussian, start), start, end)
            assert torch.allclose(moved, states[end], atol=1e-6)


@pytest.mark.parametrize("name", ["flow", "v", "epsilon"])
def test_moving_down_is_the_schedulers_own_step(name: str) -> None:
    scheduler = SCHEDULERS[name]
    schedule = made(scheduler, 5)  # 1000 training timesteps divide by 5, so DDIM's own spacing is that of the steps
    latents, prediction = torch.randn(2, 1, 3, 4, generator=torch.Generator().manual_seed(3))
    for step in range(1 if name == "epsilon" else 0, 5):
        expected = scheduler.step(prediction, scheduler.timesteps[step], latents, return_dict=False)[0]
        assert torch.allclose(schedule.move(latents, prediction, step, step + 1), expected, atol=1e-5)


def test_noise_falls_and_ends_clean() -> None:
    for scheduler in SCHEDULERS.values():
        schedule = made(scheduler)
        assert list(schedule.noise) == sorted(schedule.noise, reverse=True)
        assert (schedule.signal[-1], schedule.noise[-1]) == (1.0, 0.0)


def test_steps_count_from_the_end_too() -> None:
    schedule = made(SCHEDULERS["v"])
    clean, noise = torch.ones(2), torch.zeros(2)
    assert torch.equal(schedule.noised(clean, noise, -1), schedule.noised(clean, noise, 5))
    with pytest.raises(UnknownLayerError) as caught:
        schedule.noised(clean, noise, 6)
    assert str(caught.value) == "step 6 does not exist. The run has steps 0 to 5."


def test_inversion_of_a_model_that_predicts_the_sample_is_refused() -> None:
    schedule = made(CogVideoXDDIMScheduler(prediction_type="sample"))
    with pytest.raises(InvalidInputError) as caught:
        schedule.move(torch.ones(1), torch.ones(1), 6, 5)
    assert str(caught.value) == (
        "a deterministic step from step 6 is not defined for a model that predicts 'sample'. Use noise='forward' or "
        "'clean'."
    )


def test_reversed_flows_count_signal_instead_of_noise() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    schedule = Schedule.of(scheduler)
    assert schedule.timesteps == (0.0, 250.0, 500.0, 750.0)
    assert schedule.signal == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert schedule.noise == (1.0, 0.75, 0.5, 0.25, 0.0)
    assert schedule.clean_timestep == 1000.0
    clean, gaussian = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    start = schedule.noised(clean, gaussian, 1)
    stepped = scheduler.step(clean - gaussian, scheduler.timesteps[1], start).prev_sample
    assert torch.allclose(schedule.move(start, clean - gaussian, 1, 2), stepped)
    assert torch.allclose(stepped, schedule.noised(clean, gaussian, 2))


def test_schedulers_without_known_noise_levels_are_refused() -> None:
    scheduler = SimpleNamespace(timesteps=[1.0], config=SimpleNamespace(prediction_type="epsilon"))
    with pytest.raises(UnsupportedBackboneError) as caught:
        Schedule.of(scheduler)
    assert str(caught.value) == (
        "SimpleNamespace has neither flow-matching sigmas nor cumulative alphas with a prediction "
        "type, so the noise level of a step is unknown. Set a DDIM, UniPC or flow-matching Euler scheduler on the "
        "pipeline."
    )


def test_reversed_flows_have_the_target_that_leads_to_the_clean_end() -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    scheduler.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
    schedule = Schedule.of(scheduler)
    clean, gaussian = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    state, target = schedule.noised(clean, gaussian, 1), schedule.target(clean, gaussian, 1)
    assert torch.equal(target, clean - gaussian)
    assert torch.allclose(schedule.clean(state, target, 1), clean, atol=1e-6)
    assert torch.allclose(schedule.move(state, target, 1, 4), clean, atol=1e-6)
