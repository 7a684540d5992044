"""Every public path of the pipelines of every family on a pretend GPU: ``make test-devices``, which takes minutes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from device_paths import outcomes
from pretend_cuda import PretendCUDA
from remembered import remember

import ditprobe as dp
from probe.families import families
from probe.mini.family import Mini

CHOSEN = "DITPROBE_DEVICES" in os.environ
if CHOSEN:  # the tests of all families are imported for it
    from every_pipeline import cases, family_of_case, reason_of

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(not CHOSEN, reason="every path of every pipeline takes minutes: make test-devices"),
]


@pytest.mark.parametrize("name", cases() if CHOSEN else ["every pipeline"])
def test_every_path_of_a_pipeline_passes_or_is_refused_with_a_reason(name: str, tmp_path: Path) -> None:
    family = family_of_case(name)
    torch.manual_seed(0)  # or what random heads look like would depend on the tests before
    pipeline = family.make()
    remember(pipeline.vae)
    with PretendCUDA():
        backbone = dp.load_backbone(pipeline, device="cuda")
        passed, refused, failed = outcomes(
            family, backbone, str(tmp_path), lambda path: reason_of(name, backbone, path)
        )
    print(f"{name.removeprefix('Test')}: {len(passed)} passed, {len(refused)} refused, {len(failed)} failed")
    assert not failed, "\n".join(f"{path}: {error}" for path, error in failed.items())


def test_every_family_has_a_pipeline_here() -> None:
    covered = {type(dp.load_backbone(family_of_case(name).make())) for name in cases()}
    assert covered | {Mini} >= set(families())
