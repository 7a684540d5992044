"""Colours and textures of the synthetic scenes: band-limited noise over a regular pattern, sampled anywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.80, 0.16, 0.14),
    "orange": (0.92, 0.52, 0.12),
    "yellow": (0.88, 0.82, 0.20),
    "green": (0.18, 0.62, 0.22),
    "cyan": (0.20, 0.74, 0.78),
    "blue": (0.16, 0.28, 0.80),
    "purple": (0.52, 0.20, 0.68),
    "pink": (0.92, 0.52, 0.70),
    "white": (0.90, 0.90, 0.90),
    "grey": (0.45, 0.45, 0.45),
}
PATTERNS = ("clouds", "stripes", "checks", "dots", "waves")

_TEXELS = 64
_TEXELS_PER_PIXEL = 1.0


@lru_cache(maxsize=1)
def _spectrum() -> np.ndarray:
    """Amplitudes that keep wavelengths of about 6 to 30 pixels, so that a patch of a few pixels is distinctive."""
    fy = np.fft.fftfreq(_TEXELS)[:, None]
    fx = np.fft.rfftfreq(_TEXELS)[None]
    cycles_per_pixel = np.hypot(fy, fx) * _TEXELS_PER_PIXEL
    return np.exp(-0.5 * (np.log(np.maximum(cycles_per_pixel, 1e-3) / 0.045) / 0.5) ** 2)


def _noise(rng: np.random.Generator) -> np.ndarray:
    """(2, texel, texel) float32 periodic noise of unit variance."""
    white = np.fft.rfft2(rng.standard_normal((2, _TEXELS, _TEXELS), dtype=np.float32))
    noise = np.fft.irfft2(white * _spectrum(), s=(_TEXELS, _TEXELS))
    return (noise / noise.std(axis=(1, 2), keepdims=True)).astype(np.float32)


@dataclass(frozen=True)
class Texture:
    """A named colour, a regular pattern and noise, defined everywhere on the plane."""

    colour: tuple[float, float, float]
    pattern: str
    noise: np.ndarray  # (2, texel, texel): brightness and tint
    unit: float  # pixels of the image per pixel of a 32-pixel image
    angle: float
    period: float

    @classmethod
    def draw(
        cls, rng: np.random.Generator, colour: str, pattern: str, unit: float, period: tuple[float, float] = (9.0, 14.0)
    ) -> Texture:
        """A texture of that colour and pattern with its own noise, angle and period (pixels of a 32-pixel image)."""
        noise = _noise(rng)
        return cls(COLOURS[colour], pattern, noise, unit, rng.uniform(0, math.pi), rng.uniform(*period))

    def at(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) coordinates (x, y) of the layer in pixels to (n, 3) float32 colours in 0 to 1."""
        points = points.astype(np.float32) / np.float32(self.unit)
        brightness, tint = self._sample_noise(points)
        value = 0.16 * brightness + 0.20 * self.pattern_at(points)
        colour = np.asarray(self.colour, dtype=np.float32)
        shift = np.asarray([0.11, 0.0, -0.11], dtype=np.float32)
        return np.clip(colour * (1 + value)[:, None] + 0.25 * value[:, None] + shift * tint[:, None], 0.0, 1.0)

    def _sample_noise(self, points: np.ndarray) -> np.ndarray:
        """(2, n): bilinear look-up in the periodic noise."""
        position = points * np.float32(_TEXELS_PER_PIXEL)
        low = np.floor(position)
        wx, wy = (position - low).T
        x0, y0 = (low.astype(np.int32) % _TEXELS).T
        x1, y1 = (x0 + 1) % _TEXELS, (y0 + 1) % _TEXELS
        flat = self.noise.reshape(2, -1)
        top = flat[:, y0 * _TEXELS + x0] * (1 - wx) + flat[:, y0 * _TEXELS + x1] * wx
        bottom = flat[:, y1 * _TEXELS + x0] * (1 - wx) + flat[:, y1 * _TEXELS + x1] * wx
        return top * (1 - wy) + bottom * wy

    def pattern_at(self, points: np.ndarray) -> np.ndarray:
        """(n,) in -1 to 1."""
        if self.pattern == "clouds":
            return np.zeros(len(points), dtype=np.float32)
        cosine, sine = np.float32(math.cos(self.angle)), np.float32(math.sin(self.angle))
        along = (points[:, 0] * cosine + points[:, 1] * sine) * np.float32(2 * math.pi / self.period)
        across = (points[:, 1] * cosine - points[:, 0] * sine) * np.float32(2 * math.pi / self.period)
        if self.pattern == "stripes":
            return np.sin(along)
        if self.pattern == "waves":
            return np.sin(along + 1.2 * np.sin(across * 0.7))
        if self.pattern == "checks":
            return np.tanh(4 * np.sin(along) * np.sin(across))
        return np.tanh(3 * (np.cos(along) + np.cos(across) - 0.8))
