"""CoTracker through a stub of its signature: what it is given, what its answer becomes, and how it is loaded."""

import pickle
import sys
from types import ModuleType
from urllib.error import URLError

import numpy as np
import pytest
import torch

from analyses.trackers.cotracker import CoTracker
from store.errors import BackboneNotFoundError, InvalidInputError

PATH = np.array([[3, 5], [4, 5], [6, 7], [9, 8]])  # (x, y) pixel of a bright spot in each image


def spot(images=4, height=17, width=25):
    clip = np.zeros((images, height, width, 3), np.uint8)
    for image, (x, y) in enumerate(PATH[:images]):
        clip[image, y, x] = 255
    return clip


class Predictor(torch.nn.Module):
    """Finds the brightest pixel on a raster of twice the size, as the released predictor resizes: corners aligned."""

    def __init__(self):
        super().__init__()
        self.model = torch.nn.Linear(1, 1)
        self.calls = []

    def forward(self, video, queries=None, segm_mask=None, grid_size=0, grid_query_frame=0, backward_tracking=False):
        self.calls.append((video, queries, backward_tracking))
        images, height, width = video.shape[1], *video.shape[3:]
        size = (2 * height - 1, 2 * width - 1)
        large = torch.nn.functional.interpolate(video[0], size, mode="bilinear", align_corners=True).sum(1)
        best = large.flatten(1).argmax(1)
        place = torch.stack([best % size[1], best // size[1]], -1).float()
        place *= torch.tensor([(width - 1) / (size[1] - 1), (height - 1) / (size[0] - 1)])
        tracks = place[None, :, None].repeat(1, 1, queries.shape[1], 1)
        return tracks, torch.ones(1, images, queries.shape[1], dtype=torch.bool)


def answering(tracks, visibility):
    return CoTracker(lambda video, queries, backward_tracking: (tracks, visibility))


def test_pixel_numbers_become_pixel_centres():
    found = CoTracker(Predictor())(spot(), [[1, 4.5, 5.5], [3, 9.5, 8.5]])
    np.testing.assert_allclose(found.tracks, np.repeat(PATH[:, None] + 0.5, 2, axis=1), atol=1e-5)


def test_the_model_is_given_what_its_signature_says():
    model = Predictor()
    CoTracker(model)(spot(), [[1, 4.5, 5.5], [3, 9.0, 8.25]])
    ((video, queries, backward),) = model.calls
    assert (video.shape, video.dtype, video.max()) == ((1, 4, 3, 17, 25), torch.float32, 255)
    torch.testing.assert_close(video[0, 2, :, 7, 6], torch.full((3,), 255.0))
    torch.testing.assert_close(queries, torch.tensor([[[1, 4, 5], [3, 8.5, 7.75]]]))
    assert backward is True


def test_visibility_may_be_a_number_and_may_have_a_last_axis():
    tracks, shares = torch.zeros(1, 3, 2, 2), torch.tensor([[[0.9, 0.2], [0.6, 0.4], [0.1, 0.7]]])
    for visibility in (shares, shares[..., None]):
        found = answering(tracks, visibility)(spot(3), [[0, 3.0, 5.0], [0, 4.0, 4.0]])
        np.testing.assert_array_equal(found.visibility, [[True, True], [True, False], [False, True]])
        np.testing.assert_allclose(found.confidence, [[1, 1], [0.6, 0.4], [0.1, 0.7]], atol=1e-6)
    strict = CoTracker(lambda *_, **__: (tracks, shares), threshold=0.65)(spot(3), [[0, 3.0, 5.0], [0, 4.0, 4.0]])
    np.testing.assert_array_equal(strict.visibility, [[True, True], [False, False], [False, True]])


def test_more_than_two_answers_and_arrays_are_taken():
    model = lambda video, queries, backward_tracking: (np.ones((1, 4, 1, 2)), np.ones((1, 4, 1), bool), "more")  # noqa: E731
    np.testing.assert_array_equal(CoTracker(model)(spot(), [[0, 3.0, 5.0]]).tracks[1:, 0], [[1.5, 1.5]] * 3)


def test_one_image_and_no_points_never_reach_the_model():
    model = Predictor()
    found = CoTracker(model, name="mine")(spot(1), [[0, 3.25, 5.0]])
    np.testing.assert_array_equal(found.tracks, [[[3.25, 5.0]]])
    assert CoTracker(model)(spot(), []).tracks.shape == (4, 0, 2)
    assert (model.calls, found.details["tracker"]) == ([], "mine")


def test_answers_that_do_not_fit_are_refused():
    good = torch.zeros(1, 4, 1, 2)
    for tracks, visibility in ((good[:, :3], good[..., 0]), (good, good[0, ..., 0]), (good.mT, good[..., 0])):
        with pytest.raises(InvalidInputError, match=r"must return tracks \(1, 4, 1, 2\)"):
            answering(tracks, visibility)(spot(), [[0, 3.0, 5.0]])
    with pytest.raises(InvalidInputError, match="not finite"):
        answering(good + torch.nan, good[..., 0])(spot(), [[0, 3.0, 5.0]])


def test_arguments_are_checked():
    with pytest.raises(InvalidInputError, match="callable or a torch module; got str"):
        CoTracker("cotracker3_offline")
    with pytest.raises(InvalidInputError, match=r"between 0 and 1; got 1\.5"):
        CoTracker(Predictor(), threshold=1.5)


# Loading -----------------------------------------------------------------------------------------------------------

HUBCONF = """
import torch
def cotracker3_offline(*, pretrained=True):
    assert not pretrained
    predictor = torch.nn.Module()
    predictor.model = torch.nn.Linear(2, 1)
    return predictor
"""


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "hubconf.py").write_text(HUBCONF)
    return tmp_path


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"model": state}], ids=["plain", "nested"])
def test_weights_of_a_file_go_into_the_code_of_a_local_copy(repository, wrap):
    state = {"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([5.0])}
    torch.save(wrap(state), repository / "scaled.pth")
    tracker = CoTracker.from_checkpoint(repository / "scaled.pth", repository=repository)
    assert tracker.name == "CoTracker scaled.pth"
    assert not tracker.model.training
    torch.testing.assert_close(dict(tracker.model.model.state_dict()), state)


def test_weights_go_into_the_installed_package_where_no_copy_is_named(repository, monkeypatch):
    package, asked = ModuleType("cotracker.predictor"), []
    package.CoTrackerPredictor = lambda checkpoint: asked.append(checkpoint) or Predictor()
    monkeypatch.setitem(sys.modules, "cotracker", ModuleType("cotracker"))
    monkeypatch.setitem(sys.modules, "cotracker.predictor", package)
    state = Predictor().model.state_dict()
    torch.save(state, repository / "scaled.pth")
    tracker = CoTracker.from_checkpoint(repository / "scaled.pth")
    torch.testing.assert_close(tracker.model.model.state_dict(), state)
    assert asked == [None]


def test_files_that_are_no_weights_are_refused(repository, monkeypatch):
    def load(name, **options):
        return CoTracker.from_checkpoint(repository / name, **{"repository": repository, **options})

    with pytest.raises(BackboneNotFoundError, match=r"nothing.pth does not exist"):
        load("nothing.pth")
    torch.save({"other": torch.zeros(1)}, repository / "other.pth")
    (repository / "text.pth").write_text("no weights")
    (repository / "code.pth").write_bytes(pickle.dumps(Predictor))
    for name in ("other.pth", "text.pth", "code.pth"):
        with pytest.raises(InvalidInputError, match="does not hold weights of CoTracker3 offline"):
            load(name)
    with pytest.raises(BackboneNotFoundError, match=r"holds no hubconf.py"):
        load("other.pth", repository=repository / "elsewhere")
    monkeypatch.setitem(sys.modules, "cotracker", None)
    with pytest.raises(BackboneNotFoundError, match="the package cotracker is not installed"):
        load("other.pth", repository=None)


def test_the_hub_is_asked_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(torch.hub, "load", lambda *names: asked.append(names) or Predictor())
    found = CoTracker.from_hub()(spot(), [[0, 3.5, 5.5]])
    assert asked == [("facebookresearch/co-tracker", "cotracker3_offline")]
    assert found.details["tracker"] == "facebookresearch/co-tracker/cotracker3_offline"
    with pytest.raises(InvalidInputError, match="cotracker3_online takes a video in parts"):
        CoTracker.from_hub("cotracker3_online")


def test_without_a_network_it_is_said_what_else_there_is(monkeypatch):
    def unreachable(*_):
        raise URLError("no route")

    monkeypatch.setattr(torch.hub, "load", unreachable)
    with pytest.raises(BackboneNotFoundError, match=r"no route.*CoTracker.from_checkpoint"):
        CoTracker.from_hub()
